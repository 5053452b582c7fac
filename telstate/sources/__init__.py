"""Where events come from: files, standard input, and whatever an iterator brings to a dispatcher (`feed`)."""
