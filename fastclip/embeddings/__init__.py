"""Embeddings: features of images and of texts, as a model computes them, and as files.

encode       computes features with a model, batch after batch
token_budget encodes images of different sizes, in batches of a bounded number of tokens

embed_source embeds a source into a folder of vectors: `embed`
job          the loop of `embed`
inputs       opens what can be embedded, and makes the metadata of each input
feed         decodes inputs ahead, in order

layout       where things are in a folder of embeddings
manifest     the description of a folder: model, source, settings, files and their digests
             (manifest_fields: checks the JSON of it)
storage      stores vectors as float32, float16 or int8
metadata     reads and writes the metadata of rows, as Parquet or JSON lines
same_file    opens a file again and checks that it has not changed
columns      decides which columns a file of metadata has
places       finds the row of a sample of the source
moments      mean and covariance, from sums
skip_list    the list of inputs without a vector, with reasons
writer       writes a folder, file after file, under a lock; a killed job can be resumed
remains      removes what a killed job left, when it is resumed
reader       opens a folder, its shards, or a folder of clip-retrieval: `open_embeddings`
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastclip.embeddings.embed_source import embed as embed
    from fastclip.embeddings.reader import Embeddings as Embeddings
    from fastclip.embeddings.reader import open_embeddings as open_embeddings
    from fastclip.embeddings.token_budget import TokenBudgetEncoder as TokenBudgetEncoder
    from fastclip.embeddings.writer import EmbeddingsWriter as EmbeddingsWriter

# Named here and imported on first use: code that only encodes need not load the writer.
_MODULES = {
    "embed": "embed_source", "Embeddings": "reader", "open_embeddings": "reader",
    "EmbeddingsWriter": "writer", "TokenBudgetEncoder": "token_budget",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
