"""CLIP's ResNet: its configuration, its module, and the published models that have it."""
