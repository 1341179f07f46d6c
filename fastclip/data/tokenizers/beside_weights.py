"""Reads what the tokenizer files in a model's directory say.

A directory of transformers holds its tokenizer next to the weights. The tokenizer is OpenAI's only
if its files show that: the number of tokens is not enough, other vocabularies have 49,408 as well.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.tokenizers.openai_vocabulary import SHA256
from fastclip.data.tokenizers.vocabulary import WHOLE_FILE, read_directory

SETTINGS_FILE = "tokenizer_config.json"


def is_openai_vocabulary(directory: str | PathLike) -> bool:
    """Return whether the files of a directory show OpenAI's tokens, all with OpenAI's ids.

    Every file that transformers may read the vocabulary from must have them. The answer is False
    for a directory without such a file, or with one that cannot be read as merges like CLIP's.
    """
    try:
        found = [vocabulary.sha256 for vocabulary in read_directory(directory)]
    except (OSError, ValueError):
        return False
    return set(found) == {SHA256}


def longest_text(directory: str | PathLike) -> int | None:
    """Return how many tokens of a text the tokenizer in a directory keeps, or None for all.

    Raises:
        ValueError: `tokenizer_config.json` is not a JSON object.
    """
    length = _read_object(Path(directory, SETTINGS_FILE)).get("model_max_length")
    # transformers writes 1e30 if there is no limit.
    return int(length) if isinstance(length, (int, float)) and 2 <= length < 2**31 else None


def keeps_case(directory: str | PathLike) -> bool:
    """Return whether the tokenizer in a directory says that it does not lower-case texts.

    Raises:
        ValueError: a file is not a JSON object.
    """
    if _read_object(Path(directory, SETTINGS_FILE)).get("do_lower_case") is False:
        return True
    whole = Path(directory, WHOLE_FILE)
    return whole.is_file() and '"Lowercase"' not in json.dumps(
        _read_object(whole).get("normalizer")
    )


def _read_object(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
