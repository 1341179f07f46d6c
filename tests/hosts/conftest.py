"""Clients run in processes of their own, each with fastclip and with open_clip itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from tests.support.small_models import build

ARCHITECTURE = ClipConfig(
    16,
    VisionConfig(32, patch_size=8, width=64, layers=2),
    TextConfig(context_length=77, vocab_size=49408, width=64, heads=1, layers=2),
)


@pytest.fixture
def place(tmp_path) -> Path:
    """A directory with `tiny.json`, an architecture, and `tiny.pt`, weights of it."""
    (tmp_path / "tiny.json").write_text(json.dumps(dict(ARCHITECTURE)))
    torch.save(build(ARCHITECTURE).state_dict(), tmp_path / "tiny.pt")
    return tmp_path


@pytest.fixture
def run_client(place) -> Callable[..., str]:
    """Run a module as a program in `place`, and return what it said."""

    def run(package: str, module: str, *arguments: str) -> str:
        client = Path(__file__).with_name("client.py")
        done = subprocess.run(
            [sys.executable, client, package, place / "tiny.json", module, *arguments],
            cwd=place, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        return said

    return run
