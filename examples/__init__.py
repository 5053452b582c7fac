"""Programs that use telstate, each run by a test."""
