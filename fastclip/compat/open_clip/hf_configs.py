"""The module `open_clip.hf_configs`: its table is of towers that are not built in."""
