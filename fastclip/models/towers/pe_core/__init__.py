"""Perception Encoder's core vision transformer: rotary positions, read out by attention."""
