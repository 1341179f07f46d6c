"""Copies of the weights (masters and averages), and their placement on processes."""
