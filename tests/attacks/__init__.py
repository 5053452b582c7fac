"""Attacks on a running service, by strangers who have no secret."""
