"""The checkpoints of a run, and their comparison with the run that resumes from them."""
