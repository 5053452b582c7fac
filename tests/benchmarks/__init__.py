"""What telstate costs, beside what a competent user would write without it: `python -m tests.benchmarks`."""
