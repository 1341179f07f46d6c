"""Reads the settings of a run from a YAML or JSON file, for `--config`."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json
from fastclip.installation import install_command
from fastclip.printable import printable
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.setting import hints_of, typed_setting

LONGEST_REASON = 300  # characters of a parser's error, which quotes the file


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a file by the names of `RunConfig`'s fields.

    Raises:
        ValueError: the file cannot be parsed, has a setting twice, has an unknown setting (the
            message names the nearest known one), or has a value of the wrong type. The message
            names the file.
        OSError: the file does not exist or cannot be opened.
    """
    values = read_json(path) if path.suffix == ".json" else _read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold settings by name, such as batch_size: 64, got a "
            f"{type(values).__name__}"
        )
    settings = {str(name).replace("-", "_"): value for name, value in values.items()}
    if len(settings) < len(values):
        twice = [str(n) for n in values if "-" in str(n) and str(n).replace("-", "_") in values]
        raise ValueError(
            f"{path} has these settings twice, once with - and once with _: {', '.join(twice)}"
        )
    try:
        return _typed(settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    hints = hints_of(RunConfig)
    for name in settings:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise ValueError(f"unknown setting {name!r}{hint}")
    return {name: typed_setting(RunConfig, name, value) for name, value in settings.items()}


def _read_yaml(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs PyYAML: {install_command('train', 'pyyaml')}. A file in JSON needs no "
            "further package."
        ) from error
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except Exception as error:  # of any kind: an impossible date, braces without an end
        reason = printable(" ".join(str(error).split()), LONGEST_REASON)
        raise ValueError(f"{path} cannot be read: {reason}") from None
