"""Estimates what fits into memory, before a run."""
