"""Encode sets with a model, each once, or take their features from a cache."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples, skipped_summary
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.source import Source
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.sets.cache import FeatureCache
from fastclip.evaluate.sets.features import (
    LabelledFeatures,
    Loader,
    PairFeatures,
    encode_labelled,
    encode_pairs,
)
from fastclip.evaluate.sets.labelled import LabelledSet
from fastclip.evaluate.sets.opening import PairSet
from fastclip.evaluate.sets.unchanged import objection_to
from fastclip.models.inference import InferenceModel
from fastclip.progress import is_watched, progress_bar


def ignore(text: str) -> None:
    """Ignore a message."""


def data_digest(source: Source) -> str:
    """Return the SHA-256 of the description that a source gives of its contents."""
    return hashlib.sha256(repr(source.contents()).encode()).hexdigest()


@dataclass(frozen=True)
class SetEncoder:
    """Encodes sets with one model.

    Attributes:
        ready: the model.
        batch_size: images that are encoded at once.
        workers: processes that read and decode; with 0, this process does.
        max_bad_rate: the fraction of samples that may be unreadable.
        folder: the folder in which features are stored and looked up; None stores none.
        say: called with messages about samples and files that were left out, and about stored
            features.
    """

    ready: InferenceModel
    batch_size: int
    workers: int
    max_bad_rate: float
    folder: Path | None = None
    say: Callable[[str], None] = ignore

    def labelled(self, data: LabelledSet) -> LabelledFeatures:
        """Encode labelled images, or load their stored features; see `encode_labelled`."""
        return self._features(data, data.labels, encode_labelled)

    def pairs(self, data: PairSet) -> PairFeatures:
        """Encode pairs, or load their stored features; see `encode_pairs`."""
        return self._features(data, self.ready.tokenizer, encode_pairs)

    def _features(
        self,
        data: LabelledSet | PairSet,
        tokenizer: Callable[[list[str]], Tensor],
        encode: Callable[[Encoder, Loader, Source], Any],
    ) -> Any:
        cache = self._cache(data)
        found = None if cache is None else cache.load()
        if found is not None:
            if (objection := objection_to(found, data.source, tokenizer)) is not None:
                raise cache.refusal(objection)
            self.say(f"{data.name}: {len(found.keys):,} features were read from {cache.path}")
        else:
            with self._loading(data, tokenizer) as (encoder, loader):
                found = encode(encoder, loader, data.source)
            if cache is not None and (objection := cache.save(found)) is not None:
                self.say(f"{data.name}: {objection}")
        self._tell(data, found.bad)
        return found

    def _cache(self, data: LabelledSet | PairSet) -> FeatureCache | None:
        if self.folder is None:
            return None
        name = f"{data.name} {data.split}".rstrip()
        is_pairs = isinstance(data, PairSet)
        return FeatureCache(
            self.folder, self.ready, name, data_digest(data.source), data.source.stamp(), is_pairs
        )

    @contextlib.contextmanager
    def _loading(self, data: LabelledSet | PairSet, tokenizer: Callable[[list[str]], Tensor]):
        loader = PairLoader(
            data.source, self.ready.transform, tokenizer, batch_size=self.batch_size,
            shuffle_buffer=1, drop_last=False, num_workers=self.workers,
            max_bad_rate=self.max_bad_rate,
        )  # fmt: skip
        num = data.source.num_samples()
        with (
            progress_bar(num, title=data.name, unit="image", shown=is_watched()) as advance,
            contextlib.closing(loader),
        ):
            yield Encoder.of(self.ready), _Counted(loader, advance)

    def _tell(self, data: LabelledSet | PairSet, bad: BadSamples) -> None:
        if skipped := data.source.skipped():
            self.say(f"{data.name}: {skipped_summary(skipped)}")
        if bad.num_bad or bad.skipped:
            self.say(f"{data.name}: {bad.report()}")


def account(data: LabelledSet | PairSet, bad: BadSamples) -> dict[str, Any]:
    """Return what was left out of a set, as strict JSON: samples by reason, files by suffix."""
    return {
        "samples": bad.num_bad, "of": bad.num_seen, "reasons": dict(bad.counts),
        "files": dict(data.source.skipped()) | bad.skipped,
    }  # fmt: skip


class _Counted:
    """A loader that reports its progress."""

    def __init__(self, loader: PairLoader, advance: Callable[[int, str], None]) -> None:
        self._loader, self._advance = loader, advance

    @property
    def bad_samples(self) -> BadSamples:
        return self._loader.bad_samples

    def __iter__(self):
        for batch in self._loader:
            yield batch
            self._advance(len(batch.keys), "")
