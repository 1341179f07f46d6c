"""CoCa: a pair of towers, and a decoder that writes a caption of what the image tower sees."""
