"""Training: the loop, and what the command line runs."""
