"""Vocabularies that need nothing installed."""

import random
from itertools import islice, product

from fastclip.data.tokenizers.vocabulary import BYTE_SYMBOLS, BytePairVocabulary


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


def two_byte_vocabulary(num_merges: int) -> BytePairVocabulary:
    """Merges of two bytes that are a word: up to 65,536, made in no time."""
    pairs = product(BYTE_SYMBOLS.values(), BYTE_SYMBOLS.values())
    return BytePairVocabulary(tuple((a, f"{b}</w>") for a, b in islice(pairs, num_merges)))
