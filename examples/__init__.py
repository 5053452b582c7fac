"""Example programs. README.md lists them; tests/test_examples.py runs them."""
