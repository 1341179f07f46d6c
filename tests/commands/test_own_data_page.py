"""The commands and the model of docs/own-data.md are real."""

import importlib
import json
import re
import shlex
from pathlib import Path

import fastclip
from fastclip import cli
from fastclip.commands.completion import SHELLS
from fastclip.models.open_clip_config import from_json

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```", PAGE, re.M | re.S)


def test_commands_are_parsed(monkeypatch):
    text = "\n".join(block for kind, block in BLOCKS if not kind).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if "fastclip " in line]
    commands = [words[1:] for words in lines if words[0] == "fastclip"]
    asked = []
    for words in commands:
        module = importlib.import_module(f"fastclip.commands.{words[0]}")
        monkeypatch.setattr(module, "run", lambda args: asked.append(args.command))
        assert cli.main(words) == 0
    assert asked == [words[0] for words in commands] and len(asked) > 8


def test_models_and_settings_are_there():
    (model,) = [block for kind, block in BLOCKS if kind == "json"]
    assert from_json(json.loads(model)).embed_dim == 128
    assert set(re.findall(r"ViT-(?:Mini|Ti)[\w-]+", PAGE)) <= set(fastclip.list_models())
    assert set(re.findall(r"--completion (\w+)", PAGE)) <= set(SHELLS)
