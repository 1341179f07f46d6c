"""Configurations of models, as open_clip and transformers write them."""

import json
from pathlib import Path

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_model import read_config
from fastclip.models.checkpoints.transformers_config import to_transformers_config
from fastclip.models.open_clip_config import to_json
from tests.hosts.fuzz.mutations import mutate_json as mutate  # noqa: F401
from tests.support.small_models import SMALL

ALLOWED = (CheckpointError,)
SUFFIX = ".json"


def seeds() -> list[bytes]:
    ours = [{"model_cfg": to_json(config)} for config in SMALL.values()]
    theirs = [to_transformers_config(SMALL[name]) for name in ("quick_gelu", "siglip")]
    return [json.dumps(values).encode() for values in (*ours, *theirs)]


def read(path: Path) -> None:
    content = path.read_bytes()
    name = "open_clip_config.json" if b"vision_cfg" in content else "config.json"
    path.rename(path.with_name(name))
    try:
        read_config(path.parent)
    finally:
        path.with_name(name).rename(path)
