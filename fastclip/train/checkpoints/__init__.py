"""The files that a run writes and goes on from, and what is compared before it does."""
