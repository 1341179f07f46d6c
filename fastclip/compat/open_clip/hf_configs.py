"""The module `open_clip.hf_configs`, without its table, which describes towers not built in."""
