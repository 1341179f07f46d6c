"""Weights on disk: read from and written to every layout that users of CLIP have.

A file or a directory becomes a `StoredModel` (`stored_model.py`): tensors under open_clip's names
and what is known of the model they belong to. No file is ever allowed to run code.
"""
