"""Approximate search: an index proposes candidates, which are scored exactly.

search        the best of what an index proposes: `approximate_search`
recall        how much of what exact search finds is found: `measured_recall`
key           which index of FAISS suits how many vectors: `auto_key`
record        what is known of an index on the disk, and of which vectors it is
build         an index of FAISS, built of embeddings and measured: `build_index`
faiss_index   opened beside the embeddings that it is of: `open_index`
"""
