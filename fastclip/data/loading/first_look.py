"""Checks the first samples of data that a run will only read much later."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastclip.data.loading.bad_samples import BadSamples
from fastclip.data.loading.decoding import Decoder
from fastclip.data.loading.stream import Address
from fastclip.data.sources.samples import BadSample
from fastclip.data.sources.source import Source

MOST = 64  # entries that are tried until one is good


def require_readable(
    name: str,
    source: Source,
    transform: Callable[[Any], Tensor] | None,
    tokenizer: Callable[[list[str]], Tensor],
    max_bad_rate: float,
) -> None:
    """Read and decode entries until one is good, in this process.

    Args:
        name: the setting that says where the data is, for the message.
        transform, tokenizer: see `Decoder`, which seeds the global generators.
        max_bad_rate: the largest fraction of bad samples that is allowed. A large data set may
            begin with bad samples within that fraction; with 1, all samples may be bad.

    Raises:
        ValueError: no entry is good, or the data begins with more bad samples than the whole data
            may have.
        TypeError: the transform does not return uint8, or the tokenizer int64.
    """
    decode = Decoder(transform, tokenizer, seed=0)
    bad = BadSamples()
    for part_number, part in enumerate(source.parts()):
        for number, entry in enumerate(source.read(part)):
            found = entry.load()
            if not isinstance(found, BadSample):
                address = Address(part_number, entry.position, number)
                try:
                    found = decode(found, address, epoch=0)
                except TypeError as error:
                    raise TypeError(f"{name} does not fit this model: {error}") from error
            if not isinstance(found, BadSample):
                return
            bad.num_seen += max(1, found.lost)
            bad.add(found)
            if bad.num_seen >= MOST:
                num = source.num_samples()
                if num is None or bad.num_seen <= max_bad_rate * num:
                    return
                raise ValueError(f"{name} begins with bad samples: {bad.report()}")
    if max_bad_rate < 1 or not bad.num_seen:
        raise ValueError(f"{name} has no sample that can be used: {bad.report()}")
