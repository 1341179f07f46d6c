"""Perception Encoder's core vision transformer, with rotary positions and attention pooling."""
