"""Data: built-in sources, captions, tokenizers."""
