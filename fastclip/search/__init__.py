"""Search among vectors: what is near a query, and whether that is nearer than chance.

corpus        vectors as blocks of float32, from arrays, files or a folder of embeddings
best          scores of pairs, and the rule for ties
exact         the best rows of every query, exactly: `search`
approximate   the same from an index of FAISS, for many millions of vectors: `approximate_search`
query         a query in words: texts and images that are added and subtracted
calibration   how many hits of such a score chance gives: `judge`
results       what is shown of a row, as JSON too; near duplicates shown once
duplicates    near duplicates of a whole corpus, as groups
export        a table for other engines, in Parquet or Lance
components    groups of what is joined
"""
