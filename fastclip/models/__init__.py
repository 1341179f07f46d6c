"""Encoders: small vision and text transformers, and the CLIP model of the two."""
