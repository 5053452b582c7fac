"""What is asked of Daily, over real HTTP; only Daily's side is a fake."""
