"""LocCa: a decoder beside a pair of towers that writes captions, and says where in the image."""
