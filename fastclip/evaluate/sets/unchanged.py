"""Check whether stored features still belong to the samples of a source.

Labels and captions are read again, because a file may change without a change of its size and time:
it may be copied with its time, or have its time set back. Images are read only if they are in the
same file as the texts, and never decoded.
"""

from collections.abc import Callable

from torch import Tensor

from fastclip.data.loading.captions import CaptionReader
from fastclip.data.quoting import quoted_text
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Source
from fastclip.evaluate.items import digests
from fastclip.evaluate.sets.features import LabelledFeatures, PairFeatures, without_place

Tokenizer = Callable[[list[str]], Tensor]


def objection_to(
    features: LabelledFeatures | PairFeatures, source: Source, tokenizer: Tokenizer
) -> str | None:
    """Return how the samples of a source differ from the samples that were encoded, or None.

    Args:
        features: the stored features.
        source: the source as it is now.
        tokenizer: tokenizes captions, or takes that place for labels; the same as for `features`.

    Returns:
        A phrase that names the first sample that has changed or is missing, or says how many
        samples are new; None if nothing has changed. Bad samples have no features and their keys
        are not known, so only samples beyond their number count as new.
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
        return f"{quoted_text(next(iter(known)))} is no longer there"
    if num_new > 0:
        return f"{num_new:,} sample{' is' if num_new == 1 else 's are'} new"
    return None


def _read_again(
    source: Source, tokenizer: Tokenizer, is_labelled: bool
) -> list[tuple[str, int | str | None]]:
    """Return the key of each sample with its label or the digest of its caption."""
    read_caption = CaptionReader(tokenizer)
    keys: list[str] = []
    texts: list[int | str | None] = []
    for part in source.parts():
        for entry in source.read(part):
            if isinstance(sample := entry.load(), Sample):
                keys.append(sample.key)
                found = read_caption(sample)
                if isinstance(found, BadSample):
                    texts.append(None)
                else:
                    ids = found.ids
                    texts.append(int(ids[0]) if is_labelled else digests(ids[None])[0].hex())
    return list(zip(without_place(keys, source), texts, strict=True))
