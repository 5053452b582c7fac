"""What can be asked of Daily: limits, error messages, and what is sent."""
