"""Indices of weights that are spread over several files."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.open_clip_config import to_json
from tests.hosts.fuzz.mutations import mutate_json as mutate  # noqa: F401
from tests.support.small_models import SMALL

ALLOWED = (CheckpointError, FileNotFoundError)
SUFFIX = ".json"


def seeds() -> list[bytes]:
    names = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    return [json.dumps(names).encode(), json.dumps(names | {"metadata": {"size": 8}}).encode()]


def read(path: Path) -> None:
    directory = path.parent
    save_file({"a": torch.ones(1)}, directory / "one.safetensors")
    save_file({"b": torch.ones(1)}, directory / "two.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(to_json(SMALL["vit"])))
    index = directory / "open_clip_model.safetensors.index.json"
    index.write_bytes(path.read_bytes())
    assert set(read_stored_model(directory).tensors) <= {"a", "b"}
