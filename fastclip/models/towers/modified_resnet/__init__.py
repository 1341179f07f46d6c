"""CLIP's ResNet: configuration, module, and the published models that have it."""
