"""LocCa: a decoder next to a pair of towers that writes captions and locates what they name."""
