"""Are features that are kept of the samples as they are now?

Labels and captions are read again: who copies a file with its time, or changes it and sets the time
back, leaves sizes and times as they were. Images are read where they lie in one file with the
texts, and never decoded.
"""

from collections.abc import Callable

from torch import Tensor

from fastclip.data.loading.decoding import tokens_of
from fastclip.data.quoting import quoted_text
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Source
from fastclip.evaluate.items import digests
from fastclip.evaluate.sets.features import LabelledFeatures, PairFeatures, without_place

Tokenizer = Callable[[list[str]], Tensor]


def objection_to(
    features: LabelledFeatures | PairFeatures, source: Source, tokenizer: Tokenizer
) -> str | None:
    """Say in what the samples of a source differ from those that features are of.

    Args:
        tokenizer: of captions, or what takes its place for labels; the same as of the features.

    Returns:
        What has happened to the first sample whose text has changed or that is gone, or how many
        are new; None if nothing has. Samples are new where there are more of them than bad ones
        that have no features: which those were is not known.
    """
    is_labelled = isinstance(features, LabelledFeatures)
    said = features.labels.tolist() if is_labelled else features.captions
    known = dict(zip(features.keys, said, strict=True))
    num_new = -features.bad.num_bad
    for key, now in _read_again(source, tokenizer, is_labelled):
        if key not in known:
            num_new += 1
        elif known.pop(key) != now:
            return f"the {'label' if is_labelled else 'caption'} of {quoted_text(key)} has changed"
    if known:
        return f"{quoted_text(next(iter(known)))} is there no more"
    if num_new > 0:
        return f"{num_new:,} sample{' is' if num_new == 1 else 's are'} new"
    return None


def _read_again(
    source: Source, tokenizer: Tokenizer, is_labelled: bool
) -> list[tuple[str, int | str | None]]:
    """The key of each sample, and its label or what its caption is known by."""
    keys: list[str] = []
    texts: list[int | str | None] = []
    for part in source.parts():
        for entry in source.read(part):
            if isinstance(sample := entry.load(), Sample):
                keys.append(sample.key)
                tokens = tokens_of(sample, tokenizer)
                if isinstance(tokens, BadSample):
                    texts.append(None)
                else:
                    texts.append(int(tokens[0]) if is_labelled else digests(tokens[None])[0].hex())
    return list(zip(without_place(keys, source), texts, strict=True))
