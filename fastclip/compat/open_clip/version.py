"""The version of open_clip whose names this package has."""

__version__ = "3.3.0"
