"""Property tests: promises that hold for histories drawn by Hypothesis."""
