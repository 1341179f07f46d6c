"""The built-in data: images of handwritten digits, alone and in captioned grids."""
