"""The text tower: configuration, module, and the published models that have it."""
