"""What telstate costs, compared with what an experienced user would write without it: `python -m tests.benchmarks`."""
