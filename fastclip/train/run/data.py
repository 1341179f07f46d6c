"""The training data of a run on one rank, and what all loaders of a run have in common."""

from typing import Any

from fastclip.data.loading.bad_samples import skipped_summary
from fastclip.data.loading.beside import Beside
from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.sample_facts import NUMBERS
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.source import Source
from fastclip.data.sources.tar_shards import TarSource
from fastclip.distributed.processes import Processes
from fastclip.embeddings.inputs import digest_of_contents
from fastclip.models import digits
from fastclip.models.towers.vision_transformer.presets import SMALL
from fastclip.train.run.duplicates import FACTS_OF
from fastclip.train.run.kept_images import keep_images
from fastclip.train.run.model import RunModel
from fastclip.train.run.pairs import open_pairs, type_of
from fastclip.train.run.repeats import repeats_in_a_batch
from fastclip.train.settings.batch_config import Arithmetic
from fastclip.train.settings.data_config import MADE_TYPES, DataConfig, SourceConfig
from fastclip.train.settings.loss_config import SOGCLR
from fastclip.train.settings.run_config import RunConfig


class TrainingData:
    """The pairs that a run trains on.

    Attributes:
        name: the value of --train-data; None for generated data.
        loader: loads this rank's micro-batches.
        num_samples: the samples of the data, bad ones included; None if the data does not say.
        steps_per_epoch: optimiser steps.

    Args:
        facts: the facts about samples that batches contain, see `facts_of`.
        beside: finds tensors that are stored for each sample, see `PairLoader`.

    Raises:
        OSError, ValueError: the data does not exist, does not fill one batch, or has no numbered
            samples though the loss needs them.
        ModuleNotFoundError: the data needs a package that is not installed.
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
            config, "--train-data", config.train_data, config.dataset_type, run_model,
            config.train_num_samples,
        )  # fmt: skip
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
        """The digest by which a folder of embeddings recognises the same data."""
        return digest_of_contents(self._source, self.loader.contents)

    def descriptions(self) -> list[str]:
        """Return sentences that say how the data is read, which part of it is in an epoch, and
        whether decoded images are kept."""
        found = [separator_of("--train-data", self._source, self._config), self._kept.said]
        num = self._config.train_num_samples or self.num_samples
        size = self._arithmetic.global_batch_size
        left = 0 if num is None else num - self.steps_per_epoch * size
        if left:
            found.append(
                f"an epoch has {num - left:,} of {num:,} samples: the remaining {left:,} do not "
                f"fill a batch of {size:,} and are left out (different samples in each epoch)"
            )
        return [text for text in found if text is not None]

    def notices(self) -> list[str]:
        """Return the warnings of `notices_of` and `repeats_in_a_batch`."""
        repeats = repeats_in_a_batch(
            self._config, self.num_samples, self._arithmetic, self.steps_per_epoch
        )
        found = notices_of("--train-data", self._source, self._config)
        return found if repeats is None else [*found, repeats]


def facts_of(config: RunConfig, has_own_loss: bool = True) -> tuple[str, ...]:
    """Return the names of the facts about samples (`sample_facts.py`) that the loss needs.

    Args:
        has_own_loss: the loss is the one that the settings name. Any other loss only receives the
            ids that `mask_duplicates` asks for, as `ids`.
    """
    numbers = (NUMBERS,) if has_own_loss and config.loss_name == SOGCLR else ()
    return numbers + FACTS_OF.get(config.mask_duplicates, ())


def _order_of(config: DataConfig, facts: tuple[str, ...], arithmetic: Arithmetic) -> str | None:
    """Return the fact by which the loss orders pairs, so that the loader can order each batch.

    None if there is no such fact, if a batch curve is wanted, which needs the pairs in random
    order, or if a step has several micro-batches: ordering each of them does not order the batch.
    """
    ids = [name for name in facts if name != NUMBERS]
    if len(ids) != 1 or arithmetic.num_micro_batches > 1 or config.batch_curve_every:
        return None
    return ids[0]


def settings_of_loaders(
    config: SourceConfig, processes: Processes, batch_size: int, seed: int
) -> dict[str, Any]:
    """Return the arguments that all loaders of a run have in common."""
    return {
        "batch_size": batch_size, "seed": seed, "rank": processes.rank,
        "world_size": processes.world_size, "num_workers": config.workers,
        "max_bad_rate": config.max_bad_rate,
    }  # fmt: skip


def notices_of(name: str, source: Source, config: SourceConfig) -> list[str]:
    """Return warnings about files of a source that belong to no sample, as far as is known by now.

    Further warnings name flags without effect on data whose type had to be found; `idle_settings`
    names them for a type that is given.
    """
    notices = []
    if source.skipped():
        notices.append(f"{name}: {skipped_summary(source.skipped())}")
    is_found = config.dataset_type in ("auto", *MADE_TYPES)
    if is_found and isinstance(source, TarSource | FolderSource):
        notices += [
            f"{name} is not a table, so --csv-{flag} has no effect on it: use --{own}"
            for flag, own in (("img-key", "image-key"), ("caption-key", "caption-key"))
            if getattr(config, f"csv_{flag.replace('-', '_')}") is not None
        ]
    return notices


def separator_of(name: str, source: Source, config: SourceConfig) -> str | None:
    """Return a sentence about the character between a table's columns if it was not given."""
    if config.csv_separator is not None or not isinstance(source, CsvSource):
        return None
    shown = {"\t": "a tab"}.get(source.separator, repr(source.separator))
    return (
        f"{name}: the header shows that {shown} separates the columns; --csv-separator names "
        "another character"
    )


def _require_digits(config: RunConfig) -> None:
    """Raise ValueError if the model of the digits, which takes pixels, would have to read files."""
    if config.model != digits.NAME:
        return
    if type_of(config.train_data, config.dataset_type) not in ("builtin", "synthetic"):
        small = ", ".join(f"{name} (of {size} pixels)" for name, (_, _, size, *_) in SMALL.items())
        raise ValueError(
            f"--model digits takes the built-in digits and no other images, got --train-data "
            f"{config.train_data}: for small square images of your own, the models are {small}"
        )


def _require_numbers(source: Source, spec: str | None) -> None:
    if isinstance(source, TarSource):
        raise ValueError(
            f"loss must not be sogclr with tar shards, such as --train-data {spec}: this loss "
            "remembers each sample by its number, and the samples of shards have no numbers; use a "
            "table, a folder, a Hugging Face data set or digits"
        )


def _num_steps(config: DataConfig, source: Source, global_batch_size: int) -> int:
    num_samples = config.train_num_samples or source.num_samples()
    if num_samples is None:
        raise ValueError(
            "--train-data does not say how many samples it has: give --train-num-samples"
        )
    if num_samples < 2:
        raise ValueError(f"a contrastive loss needs at least 2 samples, got {num_samples}")
    if num_samples < global_batch_size:
        suitable = max(2, num_samples // 10)
        own = source.num_samples()
        more = f"; --train-num-samples {global_batch_size} or more "
        if own is None:
            more = ""
        elif own < global_batch_size:
            more += "repeats samples within a batch; --mask-duplicates both leaves out the copies"
        else:
            more += f"takes at least one batch of the {own:,} samples of the data"
        raise ValueError(
            f"{num_samples:,} samples do not fill one batch of {global_batch_size:,}: give "
            f"--global-batch-size {suitable} ({num_samples // suitable} steps per epoch) or "
            f"another of at most {num_samples:,}, or more samples{more}"
        )
    return num_samples // global_batch_size
