"""Finds how much memory there is, and how much of it activations may take."""
