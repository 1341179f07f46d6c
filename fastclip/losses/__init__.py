"""The losses, as functions and modules; open_clip's losses keep open_clip's signatures."""
