"""Embeddings: features of images and of texts, as a model gives them, and as files.

encode       features of a model, batch after batch

layout       where things are in a folder of embeddings
manifest     what the folder says of itself: model, source, settings, files and their digests
storage      vectors as float32, float16 or int8
metadata     what is known of each row, as Parquet or JSON lines
moments      mean and covariance, from sums
skip_list    what has no vector, and why
writer       writes a folder, file after file, under a lock; what is killed goes on
reader       opens a folder, shards of one, or clip-retrieval's: `open_embeddings`
"""
