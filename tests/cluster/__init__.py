"""Real worker processes on a real NATS server, in storms of faults: nothing is lost, late, or run twice without a reason."""
