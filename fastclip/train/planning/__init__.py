"""What fits into memory, counted before a run."""
