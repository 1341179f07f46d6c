"""Towers that timm builds, by name: configuration, module, and the published models that have one."""
