"""The version of open_clip whose names these are."""

__version__ = "3.3.0"
