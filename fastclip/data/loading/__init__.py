"""Loading: from a source to batches of uint8 pixels and tokens, resumable at every batch.

What a run sees is a function of the seed, the epoch, the rank, and the numbers of ranks and
workers. `order.py` deals parts to readers, `stream.py` is what one reader reads, `pieces.py` what a
worker makes of it, `loader.py` puts the workers together. `image_batch.py` is what images of
different sizes are on the way from there, and `token_budget.py` makes batches of such, for data
sets of which an image can be asked for by its number.
"""
