"""Sources: where pairs of an image and a caption come from. Reading can begin at any pair.

`source.py` is the contract; `open_source` picks the source for what the user names. A source
decodes no image and knows nothing of ranks, workers or order: `fastclip.data.loading` does that.
"""
