"""Turns a source into batches of uint8 pixels and tokens, and can resume at every batch.

What a run sees is a function of the seed, the epoch, the rank, and the numbers of ranks and
workers. `order.py` deals parts to readers, `stream.py` reads the samples of one reader, `pieces.py`
makes batches of them in a worker, and `loader.py` puts the workers together. `image_batch.py` holds
the images of a batch, of one size or of several. `token_budget.py` makes batches of images of
different sizes, for data sets that give an image by its number.
"""
