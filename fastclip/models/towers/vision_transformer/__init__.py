"""CLIP's vision transformer: configuration, module, and the published models that have it."""
