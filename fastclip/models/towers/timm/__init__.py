"""Image towers that timm builds, by name: configuration, module, and the published models."""
