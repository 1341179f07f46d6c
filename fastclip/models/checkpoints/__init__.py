"""Reading and writing weights in every layout that users of CLIP have.

A file or a directory becomes a `StoredModel` (`stored_model.py`): tensors under open_clip's names,
and what is known about their model. No file is ever allowed to run code.
"""
