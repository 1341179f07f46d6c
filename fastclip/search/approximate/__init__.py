"""Approximate search: an index proposes candidates, which are scored exactly.

search        finds the best rows among the candidates of an index: `approximate_search`
recall        measures how many results of exact search are found: `measured_recall`
key           chooses the kind of FAISS index for a number of vectors: `auto_key`
record        the record of an index on the disk
build         builds a FAISS index from embeddings and measures it: `build_index`
faiss_index   opens the index of embeddings: `open_index`
"""
