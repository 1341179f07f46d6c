"""The module `open_clip.hf_configs`, without its table, which is about towers not built in."""
