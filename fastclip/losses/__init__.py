"""Losses as modules, with open_clip's constructor and call signatures."""
