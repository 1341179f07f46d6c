"""Search among vectors: what is near a query, and whether that is nearer than chance.

searcher      a folder of embeddings and its model, opened to be asked: `open_searcher`
prepared      what is computed once for a folder, so that queries are quick and know chance
prepare       computes and writes it
fingerprint   what vectors are known by
encoding      texts and images that are searched for, as vectors

corpus        vectors as blocks of float32, from arrays, files or a folder of embeddings
best          scores of pairs, and the rule for ties
exact         the best rows of every query, exactly: `search`
approximate   the same from an index of FAISS, for many millions of vectors: `approximate_search`
query         a query in words: texts and images that are added and subtracted
calibration   how many hits of such a score chance gives: `judge`
captions      other people's queries, which calibration asks
results       what is shown of a row, as JSON too; near duplicates shown once
duplicates    near duplicates of a whole corpus, as groups
export        a table for other engines, in Parquet or Lance
components    groups of what is joined
"""
