"""Where events come from: files, webhooks, daily-python, pipecat, and whatever an iterator brings to a dispatcher (`feed`)."""
