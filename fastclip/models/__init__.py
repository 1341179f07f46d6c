"""Encoders: vision transformers, ResNets and text transformers, open_clip's names, checkpoints."""
