"""A service on several processes or machines that share NATS streams: see run.py and compose.yaml."""
