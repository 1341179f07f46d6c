"""Search among vectors: what is near a query, and whether that is nearer than chance.

corpus        vectors as blocks of float32, from arrays, files or a folder of embeddings
exact         the best rows of every query, exactly: `search`
query         a query in words: texts and images that are added and subtracted
calibration   how many hits of such a score chance gives: `judge`
"""
