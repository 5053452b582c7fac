"""The soak: very many calls through one dispatcher. Nothing is lost, nothing is told twice, and nothing stays in memory."""
