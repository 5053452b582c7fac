"""The soak: a million calls through one dispatcher. Nothing is lost, no handler runs twice, and nothing stays in memory."""
