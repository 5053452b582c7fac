"""The files of examples/deploy: their commands, their settings, and what they do on a machine."""
