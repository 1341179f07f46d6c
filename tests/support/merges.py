"""Vocabularies that need nothing installed."""

import random

from fastclip.data.tokenizers.vocabulary import BytePairVocabulary


def random_vocabulary(num_merges: int, alphabet: str = "ab", seed: int = 0) -> BytePairVocabulary:
    """Return merges of random symbols that exist, short ones first on average."""
    rng = random.Random(seed)
    symbols = [letter + end for letter in alphabet for end in ("", "</w>")]
    known, merges = set(symbols), []
    while len(merges) < num_merges:
        left = rng.choice([symbol for symbol in symbols if not symbol.endswith("</w>")])
        right = rng.choice(symbols)
        if left + right not in known:
            known.add(left + right)
            symbols.append(left + right)
            merges.append((left, right))
    return BytePairVocabulary(tuple(merges))
