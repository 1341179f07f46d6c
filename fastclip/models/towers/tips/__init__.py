"""TIPS: a vision transformer with two class tokens, and its text tower."""
