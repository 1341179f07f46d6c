"""The module `open_clip.hf_configs`, without its table: it is about towers that are not built in."""
