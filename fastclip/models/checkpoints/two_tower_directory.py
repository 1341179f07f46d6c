"""Reading a directory in which `save_pretrained` saved a `TwoTower`."""

from os import PathLike
from pathlib import Path

from torch import nn

from fastclip.data.json_file import read_json_object
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.load import load_checkpoint
from fastclip.models.two_tower import TwoTower
from fastclip.models.two_tower_config import TWO_TOWER_CONFIG, TWO_TOWER_WEIGHTS, rebuild


def is_two_tower(directory: str | PathLike) -> bool:
    """Whether `directory` holds a `TwoTower` that `save_pretrained` wrote."""
    return Path(directory, TWO_TOWER_CONFIG).is_file()


def read_two_tower(
    directory: str | PathLike,
    image_encoder: nn.Module | None = None,
    text_encoder: nn.Module | None = None,
    load_weights: bool = True,
) -> TwoTower:
    """Build a saved `TwoTower` and load its weights; see `TwoTower.from_pretrained`.

    Args:
        load_weights: False leaves the weights random.
    """
    path = Path(directory, TWO_TOWER_CONFIG)
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} has no {TWO_TOWER_CONFIG}: it holds no TwoTower of save_pretrained"
        )
    values = read_json_object(path, CheckpointError)
    model = rebuild(values, image_encoder, text_encoder)
    if load_weights:
        load_checkpoint(model, Path(directory, TWO_TOWER_WEIGHTS))
    return model
