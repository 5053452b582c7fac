"""One suite for all that claim to be the same thing."""
