"""Tests of the command line, each as a user runs it."""
