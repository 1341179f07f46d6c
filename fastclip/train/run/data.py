"""What a run trains on, on one rank; and how sources are opened, also those of evaluation."""

from typing import Any

from fastclip.data.loading.bad_samples import skipped_summary
from fastclip.data.loading.beside import Beside
from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.sample_facts import NUMBERS
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.source import Source
from fastclip.data.sources.tar_shards import TarSource
from fastclip.distributed.processes import Processes
from fastclip.embeddings.inputs import digest_of_contents
from fastclip.models import digits
from fastclip.models.towers.vision_transformer.presets import SMALL
from fastclip.train.run.duplicates import FACTS_OF
from fastclip.train.run.kept_images import keep_images
from fastclip.train.run.model import RunModel
from fastclip.train.run.repeats import repeats_in_a_batch
from fastclip.train.settings.batch_config import Arithmetic
from fastclip.train.settings.data_config import MADE_TYPES, DataConfig, SourceConfig
from fastclip.train.settings.loss_config import SOGCLR
from fastclip.train.settings.run_config import RunConfig


class TrainingData:
    """The pairs that a run trains on.

    Attributes:
        name: what its user has called it; None of data that is made up.
        loader: of this rank's micro-batches.
        num_samples: of the data, bad ones included; None if it does not say.
        steps_per_epoch: optimiser steps.

    Args:
        facts: what batches say of their samples, see `facts_of`.
        beside: finds what is stored of them, see `PairLoader`.

    Raises:
        OSError, ValueError: there is no such data, or less of it than a batch; or its samples have
            no numbers.
        ModuleNotFoundError: data needs a package that is not installed.
    """

    def __init__(
        self,
        config: RunConfig,
        run_model: RunModel,
        processes: Processes,
        arithmetic: Arithmetic,
        seed: int,
        facts: tuple[str, ...] = (),
        beside: Beside | None = None,
    ) -> None:
        self._config, self.name = config, config.train_data
        self._source = open_pairs(
            config, config.train_data, config.dataset_type, run_model, config.train_num_samples
        )
        if NUMBERS in facts:
            _require_numbers(self._source, config.train_data)
        _require_digits(config)
        self.num_samples = self._source.num_samples()
        self._arithmetic = arithmetic
        self.steps_per_epoch = _num_steps(config, self._source, arithmetic.global_batch_size)
        self._kept = keep_images(config, self._source, run_model.train_transform)
        self.loader = PairLoader(
            self._source, run_model.train_transform, run_model.tokenizer,
            shuffle_buffer=config.shuffle_buffer, facts=facts, beside=beside,
            image_cache=self._kept.cache,
            in_order_of=_order_of(config, facts, arithmetic),
            batches_per_epoch=self.steps_per_epoch * arithmetic.num_micro_batches,
            **settings_of_loaders(config, processes, arithmetic.micro_batch_size, seed),
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """What a folder of embeddings knows the same data by."""
        return digest_of_contents(self._source, self.loader.contents)

    def descriptions(self) -> list[str]:
        """Say how the data is read, what of it is in an epoch, and whether images are kept."""
        found = [separator_of("--train-data", self._source, self._config), self._kept.said]
        num = self._config.train_num_samples or self.num_samples
        size = self._arithmetic.global_batch_size
        left = 0 if num is None else num - self.steps_per_epoch * size
        if left:
            found.append(
                f"an epoch has {num - left:,} of {num:,} samples: the other {left:,} are fewer "
                f"than a batch of {size:,}, other ones in each epoch"
            )
        return [text for text in found if text is not None]

    def notices(self) -> list[str]:
        """See `notices_of` and `repeats_in_a_batch`."""
        repeats = repeats_in_a_batch(
            self._config, self.num_samples, self._arithmetic, self.steps_per_epoch
        )
        found = notices_of("--train-data", self._source, self._config)
        return found if repeats is None else [*found, repeats]


def facts_of(config: RunConfig, has_own_loss: bool = True) -> tuple[str, ...]:
    """What the loss of a run wants to know of samples, by the names of `sample_facts.py`.

    Args:
        has_own_loss: the loss is the one that the settings name. Any other is called with the ids
            that `mask_duplicates` asks for, as `ids`.
    """
    numbers = (NUMBERS,) if has_own_loss and config.loss_name == SOGCLR else ()
    return numbers + FACTS_OF.get(config.mask_duplicates, ())


def _order_of(config: DataConfig, facts: tuple[str, ...], arithmetic: Arithmetic) -> str | None:
    """The order that the loss takes pairs in, so that it has nothing to permute.

    A curve over batch sizes is of pairs as they are drawn; and a step of several micro-batches is
    in no order, whatever these are in.
    """
    ids = [name for name in facts if name != NUMBERS]
    if len(ids) != 1 or arithmetic.num_micro_batches > 1 or config.batch_curve_every:
        return None
    return ids[0]


def open_pairs(
    config: SourceConfig,
    spec: str | None,
    dataset_type: str,
    run_model: RunModel,
    num_samples: int | None = None,
) -> Source:
    """Open pairs of images and captions; see `open_source` for what it raises.

    Args:
        run_model: synthetic images are of its size.
        num_samples: of data that is made.
    """
    return open_source(
        spec, dataset_type, num_samples=num_samples, separator=config.csv_separator,
        image_size=run_model.model.config.vision_cfg.image_size,
        **_keys(config, spec, dataset_type),
    )  # fmt: skip


def settings_of_loaders(
    config: SourceConfig, processes: Processes, batch_size: int, seed: int
) -> dict[str, Any]:
    """What all loaders of a run are told."""
    return {
        "batch_size": batch_size, "seed": seed, "rank": processes.rank,
        "world_size": processes.world_size, "num_workers": config.workers,
        "max_bad_rate": config.max_bad_rate,
    }  # fmt: skip


def notices_of(name: str, source: Source, config: SourceConfig) -> list[str]:
    """Say which files of a source are no part of a sample, as far as is known by now.

    Say also which flags have no effect on data whose type had to be found (of a type that is given,
    `idle_settings` says so).
    """
    notices = []
    if source.skipped():
        notices.append(f"{name}: {skipped_summary(source.skipped())}")
    is_found = config.dataset_type in ("auto", *MADE_TYPES)
    if is_found and isinstance(source, TarSource | FolderSource):
        notices += [
            f"{name} is no table: --csv-{flag} has no effect on it, --{own} has"
            for flag, own in (("img-key", "image-key"), ("caption-key", "caption-key"))
            if getattr(config, f"csv_{flag.replace('-', '_')}") is not None
        ]
    return notices


def separator_of(name: str, source: Source, config: SourceConfig) -> str | None:
    """Say what separates the columns of a table, where it was not given."""
    if config.csv_separator is not None or not isinstance(source, CsvSource):
        return None
    shown = {"\t": "a tab"}.get(source.separator, repr(source.separator))
    return f"{name}: the columns are separated by {shown}, as the header shows (--csv-separator)"


def _require_digits(config: RunConfig) -> None:
    """The model of the digits takes their pixels, and no files."""
    if config.model != digits.NAME:
        return
    if _type_of(config.train_data, config.dataset_type) not in ("builtin", "synthetic"):
        small = ", ".join(f"{name} (of {size} pixels)" for name, (_, _, size, *_) in SMALL.items())
        raise ValueError(
            f"--model digits takes the built-in digits and no other images, such as --train-data "
            f"{config.train_data}: for small square images of your own there are {small}"
        )


def _keys(config: SourceConfig, spec: str | None, dataset_type: str) -> dict[str, str | None]:
    """What images and captions are called: columns of tables, or suffixes of files."""
    keys = {"image_key": config.image_key, "caption_key": config.caption_key}
    if _type_of(spec, dataset_type) not in ("csv", "hf"):
        return keys
    columns = {"image_key": config.csv_img_key, "caption_key": config.csv_caption_key}
    return {name: columns[name] if key is None else key for name, key in keys.items()}


def _type_of(spec: str | None, dataset_type: str) -> str:
    return find_type(spec) if dataset_type == "auto" and spec is not None else dataset_type


def _require_numbers(source: Source, spec: str | None) -> None:
    if isinstance(source, TarSource):
        raise ValueError(
            f"loss must not be sogclr with tar shards, such as --train-data {spec}: it remembers "
            "each sample by its number, and shards are read one after the other without counting; "
            "a table, a folder, a Hugging Face data set and digits have numbers"
        )


def _num_steps(config: DataConfig, source: Source, global_batch_size: int) -> int:
    num_samples = config.train_num_samples or source.num_samples()
    if num_samples is None:
        raise ValueError("the data does not say how many samples it has: --train-num-samples")
    if num_samples < global_batch_size:
        own = source.num_samples()
        more = f"; --train-num-samples {global_batch_size} or more "
        if own is None:
            more = ""
        elif own < global_batch_size:
            more += "has samples several times in a batch, which --mask-duplicates both is for"
        else:
            more += f"is a batch or more of the {own:,} that the data has"
        raise ValueError(
            f"{num_samples:,} samples are fewer than one batch of {global_batch_size:,}: give "
            f"--global-batch-size {max(1, num_samples // 10)} (ten steps per epoch) or another of "
            f"at most {num_samples:,}, or more samples{more}"
        )
    return num_samples // global_batch_size
