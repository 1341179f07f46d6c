"""Data: sources of image-text pairs, batches, image preprocessing, tokenizers."""
