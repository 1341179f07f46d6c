"""A teacher of a distillation: a trained model that sees what the model of the run sees."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.data.sources.source import Contents
from fastclip.distributed.processes import Processes
from fastclip.models.digests import tokenizer_digest
from fastclip.models.inference import InferenceModel, open_model
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.run.encode_pairs import encode_pairs
from fastclip.train.run.model import RunModel
from fastclip.train.settings.run_config import RunConfig

NUM_LETTERS = 16  # of a digest
OWN_WEIGHTS = "-"  # in the place of the weights of a teacher that has them


class Taught(NamedTuple):
    """What a teacher makes of the B pairs of a step."""

    image_features: Tensor  # (B, K) unit rows, on the device of the run
    text_features: Tensor  # (B, K)
    logit_scale: float | Tensor


class Teacher:
    """Encodes what a step is taken with, micro-batch by micro-batch and without a gradient.

    Args:
        ready: on the device of the run. It has the pixels and the tokens of the run's own model:
            see `objection_to`.
    """

    def __init__(self, ready: InferenceModel) -> None:
        self.ready = ready

    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Taught:
        """What it makes of all pairs, in their order.

        Args:
            pairs: micro-batches of images, uint8 on the host, and tokens.
        """
        ready = self.ready
        return Taught(**encode_pairs(ready.model, pairs, ready.prepare, ready.autocast))

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.ready.model.parameters())

    def contents(self) -> Contents:
        """What its features depend on beside the pixels and the tokens; see `contents.py`."""
        digests = self.ready.digests
        return [
            ("weights", digests.weights[:NUM_LETTERS]),
            ("configuration", digests.configuration[:NUM_LETTERS]),
        ]


def open_computed_teachers(
    config: RunConfig, run_model: RunModel, processes: Processes, precision: TowerPrecision
) -> list[Teacher]:
    """Open each of `config.distill_model` in the precision of the run.

    Raises:
        ValueError: one takes other images or texts than the model of the run; or as `open_model`.
        OSError, CheckpointError: see `open_model`.
    """
    names = config.distill_model or ()
    weights = config.distill_pretrained or (OWN_WEIGHTS,) * len(names)
    found = []
    for name, pretrained in zip(names, weights, strict=True):
        ready = open_model(
            name, None if pretrained == OWN_WEIGHTS else pretrained, device=processes.device,
            precision=precision.name, cache_dir=config.cache_dir,
        )  # fmt: skip
        if differences := objection_to(ready, run_model):
            raise ValueError(
                f"distill_model must take the images and the texts of {config.model}, and "
                f"{name} does not: {'; '.join(differences)}"
            )
        found.append(Teacher(ready))
    return found


def objection_to(ready: InferenceModel, run_model: RunModel) -> list[str]:
    """Say in what the inputs of a teacher differ from those of the model of a run."""
    cfg = ready.preprocess_cfg
    values = {
        "images have size": (_size_of(ready.model), _size_of(run_model.model)),
        "pixels have mean": (_plain(cfg["mean"]), _plain(run_model.mean)),
        "pixels have standard deviation": (_plain(cfg["std"]), _plain(run_model.std)),
    }
    found = [
        f"its {what} {its}, and not {own}" for what, (its, own) in values.items() if its != own
    ]
    if tokenizer_digest(ready.tokenizer) != tokenizer_digest(run_model.tokenizer):
        found.append("its tokenizer gives other tokens")
    return found


def _size_of(model: Any) -> tuple[int, ...]:
    size = model.config.vision_cfg.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _plain(moments: float | Sequence[float]) -> float | tuple[float, ...]:
    """One number of channels that are all alike, of either way to give them."""
    values = (moments,) if isinstance(moments, float | int) else tuple(moments)
    return values[0] if len(set(values)) == 1 else values
