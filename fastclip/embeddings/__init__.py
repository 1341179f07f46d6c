"""Embeddings: features of images and of texts, as a model gives them, and as files.

encode       features of a model, batch after batch
token_budget images of different sizes, in batches of a bounded number of tokens

embed_source a source to a folder of vectors: `embed`
job          the loop of it
inputs       what can be embedded, and what is known of each input
feed         inputs decoded ahead, in order

layout       where things are in a folder of embeddings
manifest     what the folder says of itself: model, source, settings, files and their digests
             (manifest_fields: what JSON must have for it)
storage      vectors as float32, float16 or int8
metadata     what is known of each row, as Parquet or JSON lines
same_file    a file that is opened again must be the one that it was
columns      which columns a file of metadata has
places       which row a sample of the source has
moments      mean and covariance, from sums
skip_list    what has no vector, and why
writer       writes a folder, file after file, under a lock; what is killed goes on
remains      what a killed job left, and who goes on removes
reader       opens a folder, shards of one, or clip-retrieval's: `open_embeddings`
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastclip.embeddings.embed_source import embed as embed
    from fastclip.embeddings.reader import Embeddings as Embeddings
    from fastclip.embeddings.reader import open_embeddings as open_embeddings
    from fastclip.embeddings.token_budget import TokenBudgetEncoder as TokenBudgetEncoder
    from fastclip.embeddings.writer import EmbeddingsWriter as EmbeddingsWriter

# Named here, imported when they are asked for: who encodes need not load what writes.
_MODULES = {
    "embed": "embed_source", "Embeddings": "reader", "open_embeddings": "reader",
    "EmbeddingsWriter": "writer", "TokenBudgetEncoder": "token_budget",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
