"""Files of tests in the place of those that OpenAI published."""

import hashlib
from pathlib import Path

import pytest

from fastclip.models.published import OPENAI_FILES


def publish_as_openais(path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "ViT-B/32") -> None:
    """Let OpenAI's file of a model be this one, by its SHA-256."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(OPENAI_FILES, name, (digest, path.name))
