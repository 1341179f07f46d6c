"""Sources: where pairs of an image and a caption come from, and how to read on from any of them.

`source.py` is the contract; `open_source` picks a source by what it is given. A source decodes no
image and knows nothing of ranks, workers or order: that is `fastclip.data.loading`.
"""
