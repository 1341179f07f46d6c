"""What a worker returns: pieces of the size of a batch, with its cursor and its bad samples."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.beside import Beside
from fastclip.data.loading.decoding import Decoder
from fastclip.data.loading.image_batch import Packed, packed, together
from fastclip.data.loading.sample_facts import SampleFacts
from fastclip.data.loading.stream import START, Address, Cursor, Reader, SampleStream
from fastclip.data.randomness import preserved_generators
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import stretches

NEWS_AFTER = 1000  # bad samples; otherwise an hour of bad samples would pass in silence


@dataclass(frozen=True)
class Piece:
    """A batch of one reader, or its smaller last batch of an epoch.

    Attributes:
        images: (n, C, H, W) uint8, or n of (C, H_i, W_i) if their sizes differ, which are `Packed`
            until the loader has the piece. None if n = 0. n is the batch size, or less in the last
            piece.
        tokens: (n, T) int64, None if n = 0.
        keys: n names.
        bad: the account of the samples read for this piece, and of the bad ones among them.
        facts: (n, ...) each, by name: the facts that were asked for; empty if n = 0.
        cursor: where the reader stands after this piece.
        is_last: whether this is the last piece of this reader in this epoch.
        is_news: not a piece, only the account of bad samples so far; the piece is still to come.
    """

    images: Tensor | list[Tensor] | Packed | None
    tokens: Tensor | None
    keys: list[str]
    bad: BadSamples
    cursor: Cursor
    facts: dict[str, Tensor] = field(default_factory=dict)
    is_last: bool = False
    is_news: bool = False

    def pin_memory(self) -> "Piece":
        if self.images is None:
            return self
        return replace(self, images=self.images.pin_memory(), tokens=self.tokens.pin_memory())


class _Decoded(NamedTuple):
    pixels: Tensor  # (C, H, W) uint8
    tokens: Tensor  # (T,) int64
    is_cut: bool  # whether the caption did not fit
    key: str
    facts: tuple[int, ...]  # one for each fact that was asked for
    beside: tuple[Tensor, ...]  # the stored values of the sample


class PieceDataset(IterableDataset):
    """The endless pieces of one reader: epoch after epoch, each epoch with one last piece.

    Args:
        epoch, cursor: where to begin.
        facts: finds the facts of each sample.
        in_order_of: the fact by which the samples of a piece are sorted; None leaves them as drawn.
        beside: finds stored values of each sample.
    """

    def __init__(
        self,
        reader: Reader,
        decoder: Decoder,
        batch_size: int,
        epoch: int,
        cursor: Cursor | None,
        facts: SampleFacts,
        in_order_of: str | None = None,
        beside: Beside | None = None,
    ) -> None:
        self._reader, self._decoder, self._batch_size = reader, decoder, batch_size
        self._epoch, self._cursor = epoch, cursor
        self._facts, self._in_order_of = facts, in_order_of
        self._beside = beside
        self._stretches = [] if beside is None else stretches(reader.parts)

    def __iter__(self) -> Iterator[Piece]:
        epoch, cursor = self._epoch, self._cursor or START
        while True:
            yield from self._one_epoch(epoch, cursor)
            epoch, cursor = epoch + 1, START

    def _one_epoch(self, epoch: int, cursor: Cursor) -> Iterator[Piece]:
        stream = SampleStream(self._reader, epoch, cursor)
        decoded: list[_Decoded] = []
        bad, num_told = BadSamples(), 0
        while (drawn := stream.draw()) is not None:
            result = drawn if isinstance(drawn, BadSample) else self._decode(*drawn, epoch)
            if isinstance(result, BadSample):
                bad.add(result)
            else:
                decoded.append(result)
            if len(decoded) == self._batch_size:
                yield self._piece(decoded, bad, stream)
                decoded, bad, num_told = [], BadSamples(), 0
            elif bad.num_bad - num_told >= NEWS_AFTER:
                num_told = bad.num_bad
                so_far = replace(bad.merge(BadSamples()), num_seen=stream.num_seen)
                yield Piece(None, None, [], so_far, START, is_news=True)
        yield replace(self._piece(decoded, bad, stream), is_last=True)

    def _decode(self, address: Address, sample: Sample, epoch: int) -> _Decoded | BadSample:
        with preserved_generators():
            found = self._decoder(sample, address, epoch)
        if isinstance(found, BadSample):
            return found
        pixels, tokens = found
        try:
            facts = self._facts(address, sample, tokens.ids)
        except OSError as error:
            return BadSample(sample.key, "missing image file", str(error))
        beside = ()
        if self._beside is not None:
            beside = self._beside((self._stretches[address.part], address.position))
        if isinstance(beside, str):
            return BadSample(sample.key, beside)
        return _Decoded(pixels, *tokens, sample.key, facts, beside)

    def _piece(self, decoded: list[_Decoded], bad: BadSamples, stream: SampleStream) -> Piece:
        bad.num_seen, stream.num_seen = stream.num_seen, 0
        if not decoded:
            return Piece(None, None, [], bad, stream.cursor())
        names = self._facts.names
        if self._in_order_of is not None:
            place = names.index(self._in_order_of)
            decoded = sorted(decoded, key=lambda one: one.facts[place])
        images, tokens, are_cut, keys, facts, beside = zip(*decoded, strict=True)
        bad.num_cut = sum(are_cut)
        columns = [torch.tensor(column) for column in zip(*facts, strict=True)]
        found = dict(zip(names, columns, strict=True))
        if self._beside is not None:
            stored = map(torch.stack, zip(*beside, strict=True))
            found |= dict(zip(self._beside.names, stored, strict=True))
        pixels = packed(together(images, self._decoder.any_size))
        return Piece(pixels, _stack(tokens), list(keys), bad, stream.cursor(), found)


def _stack(tokens: tuple[Tensor, ...]) -> Tensor:
    shapes = {tuple(each.shape) for each in tokens}
    if len(shapes) > 1:
        raise ValueError(f"tokenizer must return one shape, got {sorted(shapes)}")
    return torch.stack(tokens)
