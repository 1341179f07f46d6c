"""Decides whether a run keeps decoded images in memory, and how many; see `image_cache.py`."""

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import islice
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.loading.image_cache import CHANNELS, ImageCache, decoded
from fastclip.data.preprocess import TrainingTransform
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Source, first_numbers
from fastclip.data.sources.tar_shards import TarSource
from fastclip.train.memory.activation_budget import GIB, memory_of, parse_bytes
from fastclip.train.settings.run_config import RunConfig

FRACTION_OF_FREE = 10  # "auto" takes at most a tenth of the free memory
NUM_LOOKED_AT = 16  # samples from all over the data, whose size is measured
SHARES_DIFFER = 1.25  # times the size of all images: workers do not decode equally many


class KeptImages(NamedTuple):
    """Attributes:
    cache: for the loader, or None if no image is kept.
    said: a sentence about it for the log, or None.
    """

    cache: ImageCache | None
    said: str | None


def keep_images(
    config: RunConfig, source: Source, transform: Callable[[Any], Tensor] | None
) -> KeptImages:
    """Decide by `--image-cache` whether decoded images are kept, as its help describes.

    Args:
        transform: of training images.

    Raises:
        ValueError: the system does not provide as much memory as the setting asks for.
    """
    is_auto = config.image_cache == "auto"
    given = None if is_auto else int(parse_bytes("image_cache", config.image_cache))
    passes = config.epochs * (config.train_num_samples or 0) / (source.num_samples() or 1)
    if given == 0 or (is_auto and max(config.epochs, passes) <= 1):
        return KeptImages(None, None)
    if (objection := _objection(config, source, transform)) is not None:
        return KeptImages(None, None if is_auto else f"--image-cache keeps nothing: {objection}")
    needed = _bytes_of_all(source, transform)
    if needed is None:
        nothing = "--image-cache keeps nothing: none of the images looked at is a readable file"
        return KeptImages(None, None if is_auto else nothing)
    num, of_all = source.num_samples(), f"the decoded images, about {needed / GIB:.2f} GiB,"
    if is_auto:
        free = memory_of(torch.device("cpu")) // FRACTION_OF_FREE
        if needed * SHARES_DIFFER > free:
            return KeptImages(
                None,
                f"{of_all} are not kept in memory: a tenth of the free memory is "
                f"{free / GIB:.2f} GiB; --image-cache BYTES keeps as many as fit into BYTES",
            )
        given = int(needed * SHARES_DIFFER)
    firsts = first_numbers(source.parts())
    try:
        cache = ImageCache(firsts, num, given, max(config.workers, 1))
    except (OSError, OverflowError, MemoryError) as error:
        if is_auto:
            return KeptImages(
                None, f"{of_all} are not kept: the system does not provide the memory ({error})"
            )
        raise ValueError(
            f"--image-cache {config.image_cache} is more memory than the system provides "
            f"({error}): give less, or 0 to keep no images"
        ) from error
    part = "all" if given >= needed else f"about {given / needed:.0%}"
    said = f"{of_all} are kept in the memory of each rank (--image-cache): {part} of them"
    return KeptImages(cache, said)


def _objection(config: RunConfig, source: Source, transform: Any) -> str | None:
    """Return why no image can be kept, or None."""
    if not isinstance(transform, TrainingTransform):
        return "the images of this model are already decoded"
    if isinstance(source, TarSource):
        return "tar shards are read without counting, and the sizes in sizes.json may be wrong"
    if not source.num_samples() or first_numbers(source.parts()) is None:
        return "the data does not say how many samples it has"
    method = multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_all_start_methods()[0]  # which is the default
    if config.workers and method != "fork":
        return f"workers that are started by {method!r} share no memory: --workers 0 keeps images"
    return None


def _bytes_of_all(source: Source, transform: Any) -> float | None:
    """Estimate the bytes of all decoded images from some of them; None if none can be read."""
    sizes = []
    for sample in islice(_samples(source), NUM_LOOKED_AT):
        if not isinstance(sample.image, str | PathLike | bytes):
            continue  # the image is already decoded
        try:
            image = decoded(transform, sample.image)
        except (OSError, ValueError):
            continue
        sizes.append(image.width * image.height * CHANNELS)
    return sum(sizes) / len(sizes) * source.num_samples() if sizes else None


def _samples(source: Source) -> Iterator[Sample]:
    """Yield the first sample of parts from all over the data, or more if there are few parts."""
    parts = source.parts()
    num = min(len(parts), NUM_LOOKED_AT)
    for part in [parts[i * len(parts) // num] for i in range(num)]:
        for entry in islice(source.read(part), max(1, NUM_LOOKED_AT // num)):
            if isinstance(found := entry.load(), Sample):
                yield found
