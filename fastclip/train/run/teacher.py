"""A teacher of a distillation: a trained model that takes the same inputs as the run's model."""

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
OWN_WEIGHTS = "-"  # stands for the weights of a teacher that comes with its weights


class Taught(NamedTuple):
    """The outputs of a teacher for the B pairs of a step."""

    image_features: Tensor  # (B, K) unit rows, on the device of the run
    text_features: Tensor  # (B, K)
    logit_scale: float | Tensor


class Teacher:
    """Encodes the pairs of a step, micro-batch by micro-batch and without a gradient.

    Args:
        ready: the teacher, on the device of the run. It takes the same pixels and tokens as the
            model of the run, see `objection_to`.
    """

    def __init__(self, ready: InferenceModel) -> None:
        self.ready = ready

    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Taught:
        """Return the teacher's outputs for all pairs, in their order.

        Args:
            pairs: micro-batches of images, uint8 on the host, and tokens.
        """
        ready = self.ready
        return Taught(**encode_pairs(ready.model, pairs, ready.prepare, ready.autocast))

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.ready.model.parameters())

    def contents(self) -> Contents:
        """Return what its features depend on besides the pixels and tokens; see `contents.py`."""
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
        ValueError: a teacher takes other images or texts than the model of the run; or as
            `open_model`.
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
                f"distill_model must take the same images and texts as {config.model}, but "
                f"{name} does not: {'; '.join(differences)}"
            )
        found.append(Teacher(ready))
    return found


def objection_to(ready: InferenceModel, run_model: RunModel) -> list[str]:
    """Return how the inputs of a teacher differ from the inputs of the run's model, as clauses."""
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
        found.append("its tokenizer makes other tokens")
    return found


def _size_of(model: Any) -> tuple[int, ...]:
    size = model.config.vision_cfg.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _plain(moments: float | Sequence[float]) -> float | tuple[float, ...]:
    """Return a single number if all channels have the same, and a tuple otherwise."""
    values = (moments,) if isinstance(moments, float | int) else tuple(moments)
    return values[0] if len(set(values)) == 1 else values
