"""Search among vectors: find what is near a query, and judge whether it is nearer than chance.

searcher      answers queries about a folder of embeddings: `open_searcher`
prepared      what `fastclip index` stores, for quick and calibrated queries
prepare       computes and writes it
fingerprint   a digest that identifies vectors
encoding      encodes the texts and images of queries

corpus        vectors as blocks of float32, from arrays, files or a folder of embeddings
best          scores of pairs, and the rule for ties
exact         exact search for the best rows of every query: `search`
approximate   search with a FAISS index, for many millions of vectors: `approximate_search`
query         queries of texts and images that are added and subtracted
calibration   how many rows would score as high by chance: `judge`
captions      captions to calibrate with
results       results for display and as JSON; near duplicates shown once
copies        copies of the images that were found
duplicates    groups of near duplicates in a whole corpus
export        a table for other engines, in Parquet or Lance
components    connected components
"""
