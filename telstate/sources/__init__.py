"""Where events come from. So far: files and standard input."""
