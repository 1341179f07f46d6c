"""What a worker hands over: pieces of the size of a batch, with its cursor and its bad samples."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.decoding import Decoder
from fastclip.data.loading.stream import START, Address, Cursor, Reader, SampleStream
from fastclip.data.randomness import preserved_generators
from fastclip.data.sources.samples import BadSample, Sample

NEWS_AFTER = 1000  # bad samples, so that an hour of nothing else does not pass in silence


@dataclass(frozen=True)
class Piece:
    """Attributes:
    images: (n, C, H, W) uint8, None if n = 0. n is the batch size, less in the last piece.
    tokens: (n, T) int64, None if n = 0.
    keys: n names.
    bad: what was read for this piece, and what of it was bad.
    numbers: (n,) int64 of the samples in the source, None if they are not asked for or n = 0.
    cursor: behind this piece.
    is_last: of this reader in this epoch.
    is_news: no piece but the account of bad samples so far; the piece is still to come.
    """

    images: Tensor | None
    tokens: Tensor | None
    keys: list[str]
    bad: BadSamples
    cursor: Cursor
    numbers: Tensor | None = None
    is_last: bool = False
    is_news: bool = False

    def pin_memory(self) -> "Piece":
        if self.images is None:
            return self
        return replace(self, images=self.images.pin_memory(), tokens=self.tokens.pin_memory())


class PieceDataset(IterableDataset):
    """The pieces of one reader, without end: epoch after epoch, each with one last piece.

    Args:
        epoch, cursor: where to begin.
        numbered: pieces have the numbers of their samples; parts say how many samples they have.
    """

    def __init__(
        self,
        reader: Reader,
        decoder: Decoder,
        batch_size: int,
        epoch: int,
        cursor: Cursor | None,
        numbered: bool = False,
    ) -> None:
        self._reader, self._decoder, self._batch_size = reader, decoder, batch_size
        self._epoch, self._cursor = epoch, cursor
        sizes = [part.num_samples for part in reader.parts] if numbered else []
        self._firsts = list(accumulate(sizes, initial=0)) if numbered else None  # by part

    def __iter__(self) -> Iterator[Piece]:
        epoch, cursor = self._epoch, self._cursor or START
        while True:
            yield from self._one_epoch(epoch, cursor)
            epoch, cursor = epoch + 1, START

    def _one_epoch(self, epoch: int, cursor: Cursor) -> Iterator[Piece]:
        stream = SampleStream(self._reader, epoch, cursor)
        decoded: list[tuple[Tensor, Tensor]] = []
        keys: list[str] = []
        addresses: list[Address] = []
        bad, num_told = BadSamples(), 0
        while (drawn := stream.draw()) is not None:
            result = drawn if isinstance(drawn, BadSample) else self._decode(*drawn, epoch)
            if isinstance(result, BadSample):
                bad.add(result)
            else:
                decoded.append(result)
                keys.append(drawn[1].key)
                addresses.append(drawn[0])
            if len(decoded) == self._batch_size:
                yield self._numbered(_piece(decoded, keys, bad, stream), addresses)
                decoded, keys, addresses, bad, num_told = [], [], [], BadSamples(), 0
            elif bad.num_bad - num_told >= NEWS_AFTER:
                num_told = bad.num_bad
                so_far = replace(bad.merge(BadSamples()), num_seen=stream.num_seen)
                yield Piece(None, None, [], so_far, START, is_news=True)
        last = self._numbered(_piece(decoded, keys, bad, stream), addresses)
        yield replace(last, is_last=True)

    def _numbered(self, piece: Piece, addresses: list[Address]) -> Piece:
        if self._firsts is None or not addresses:
            return piece
        numbers = [self._firsts[address.part] + address.number for address in addresses]
        return replace(piece, numbers=torch.tensor(numbers))

    def _decode(
        self, address: Address, sample: Sample, epoch: int
    ) -> tuple[Tensor, Tensor] | BadSample:
        with preserved_generators():
            return self._decoder(sample, address, epoch)


def _piece(
    decoded: list[tuple[Tensor, Tensor]], keys: list[str], bad: BadSamples, stream: SampleStream
) -> Piece:
    bad.num_seen, stream.num_seen = stream.num_seen, 0
    if not decoded:
        return Piece(None, None, keys, bad, stream.cursor())
    images, tokens = (_stack(column) for column in zip(*decoded, strict=True))
    return Piece(images, tokens, keys, bad, stream.cursor())


def _stack(tensors: tuple[Tensor, ...]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(
            f"transform and tokenizer must return one shape each, got {sorted(shapes)}"
        )
    return torch.stack(tensors)
