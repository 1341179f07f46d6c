"""Image and text encoders, their construction by open_clip's names, and their checkpoints."""
