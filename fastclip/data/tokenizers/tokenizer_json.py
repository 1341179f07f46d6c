"""Writes a tokenizer as `tokenizer.json`, which the `tokenizers` library runs without fastclip.

The file holds everything that turns a text into a row of ids: normalization, split, vocabulary,
start and end, truncation and padding. `tokenizer_config.json` next to it names the padding token,
for programs that pad themselves.

The format cannot express ftfy and the decoding of HTML entities (see `cleaning.py`), except for
curly quotes, as phones type them. `tokenizer_check.py` finds the texts for which that matters.

Source: the format of tokenizers 0.22 (https://huggingface.co/docs/tokenizers).
"""

import json
import string
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import regex

from fastclip.data.digits.tokenizer import END, PAD, START, UNKNOWN, WordTokenizer
from fastclip.data.tokenizers.beside_weights import SETTINGS_FILE
from fastclip.data.tokenizers.byte_pairs import CLASSES, CONTRACTIONS, BytePairTokenizer
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.vocabulary import END_OF_WORD, WHOLE_FILE

Json = dict[str, Any]
SOME_BLANKS = {"Regex": r"\s+"}
PUNCTUATION = {"Regex": f"[{regex.escape(string.punctuation)}]"}


def write_tokenizer_json(tokenizer: Callable[..., Any], directory: str | PathLike) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` of a tokenizer.

    Args:
        tokenizer: a `BytePairTokenizer`, an `HFTokenizer` or a `WordTokenizer`.
        directory: an existing directory.

    Raises:
        TypeError: the tokenizer is of another kind.
        ValueError: the format cannot express what the tokenizer does.
        OSError: the directory cannot be written.

    Example:
        >>> write_tokenizer_json(fastclip.get_tokenizer("ViT-B-32"), "textual")
        >>> tokenizers.Tokenizer.from_file("textual/tokenizer.json").encode("a dog").ids[:4]
        [49406, 320, 1929, 49407]
    """
    if isinstance(tokenizer, BytePairTokenizer):
        whole, settings = byte_pairs(tokenizer)
    elif isinstance(tokenizer, WordTokenizer):
        whole, settings = words(tokenizer)
    elif isinstance(tokenizer, HFTokenizer):
        whole, settings = hugging_face(tokenizer)
    else:
        raise TypeError(f"a {type(tokenizer).__name__} cannot be written as {WHOLE_FILE}")
    for name, values in ((WHOLE_FILE, whole), (SETTINGS_FILE, settings)):
        text = json.dumps(values, ensure_ascii=False, indent=2)
        Path(directory, name).write_text(text + "\n", encoding="utf-8")


def byte_pairs(tokenizer: BytePairTokenizer) -> tuple[Json, Json]:
    """Return the contents of the two files for OpenAI's byte pairs."""
    start, end = tokenizer.special_tokens[:2]
    split = {"Regex": f"(?i:{CONTRACTIONS})|{CLASSES}"}
    # Special tokens are also found in texts, unless the cleaner removes their punctuation.
    found = () if tokenizer.clean == "canonicalize" else tokenizer.special_tokens
    added = [
        {
            "id": tokenizer.encoder[token], "content": token, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": True, "special": True,
        }
        for token in found
    ]  # fmt: skip
    vocabulary = tokenizer.vocabulary
    whole = _whole(
        tokenizer.context_length,
        padding=vocabulary.tokens[0],  # whose id is 0: fastclip pads with zeros
        ends={token: tokenizer.encoder[token] for token in (start, end)},
        added_tokens=added,
        normalizer=_sequence("normalizers", _normalizers(tokenizer.clean)),
        pre_tokenizer=_sequence("pretokenizers", [_words(split), _byte_level()]),
        decoder=_sequence("decoders", [_byte_level(), _replace({"String": END_OF_WORD}, " ")]),
        model={
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            # Includes start and end: ids of `added_tokens` must not exceed the vocabulary.
            "vocab": dict(tokenizer.encoder), "merges": [list(m) for m in vocabulary.merges],
        },
    )  # fmt: skip
    return whole, _settings(tokenizer.context_length, vocabulary.tokens[0], start, end)


def words(tokenizer: WordTokenizer) -> tuple[Json, Json]:
    """Return the contents of the two files for whole words."""
    ids = {token: i for i, token in enumerate(tokenizer.tokens)}
    whole = _whole(
        tokenizer.context_length,
        padding=PAD,
        ends={START: ids[START], END: ids[END]},
        added_tokens=[],  # within a text they are words like others
        normalizer={"type": "Lowercase"},
        pre_tokenizer=_words({"Regex": r"[\p{L}\p{N}_]+"}),
        decoder=None,
        model={"type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN},
    )
    return whole, _settings(tokenizer.context_length, PAD, START, END)


def hugging_face(tokenizer: HFTokenizer) -> tuple[Json, Json]:
    """Return the contents of the two files for a tokenizer of transformers, with our length."""
    inner = tokenizer.tokenizer
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"a {type(inner).__name__} of transformers has no {WHOLE_FILE}, because it does not "
            "use the tokenizers library"
        )
    if tokenizer.strip_sep_token:
        raise ValueError(
            f"{WHOLE_FILE} cannot express strip_sep_token=True, zeros instead of separators"
        )
    whole = json.loads(backend.to_str())
    _limit(whole, tokenizer.context_length, inner.pad_token, inner.pad_token_id)
    whole["padding"]["direction"] = inner.padding_side.capitalize()
    whole["truncation"]["direction"] = inner.truncation_side.capitalize()
    rest = [] if whole.get("normalizer") is None else [whole["normalizer"]]
    whole["normalizer"] = _sequence("normalizers", [*_normalizers(tokenizer.clean), *rest])
    settings = _settings(
        tokenizer.context_length, inner.pad_token, inner.bos_token, inner.eos_token
    )
    return whole, settings


def _whole(
    context_length: int, padding: str, ends: dict[str, int], model: Json, **parts: Any
) -> Json:
    whole = {"version": "1.0", **parts, "post_processor": _template(ends), "model": model}
    _limit(whole, context_length, padding, model["vocab"][padding])
    return whole


def _limit(whole: Json, context_length: int, padding: str, padding_id: int) -> None:
    """Set truncation and padding to `context_length`, start and end included."""
    whole["truncation"] = {
        "direction": "Right", "max_length": context_length, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    whole["padding"] = {
        "strategy": {"Fixed": context_length}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": padding_id, "pad_type_id": 0, "pad_token": padding,
    }  # fmt: skip


def _settings(context_length: int, padding: str, start: str | None, end: str | None) -> Json:
    ends = {"bos_token": start, "eos_token": end}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_length,
        "pad_token": padding, **{name: token for name, token in ends.items() if token is not None},
    }  # fmt: skip


def _normalizers(clean: str) -> list[Json]:
    """Return the steps of a cleaner that the format can express, ftfy's on quotes included."""
    steps = [
        {"type": "NFC"},
        _replace({"Regex": "[\u02bc\u2018-\u201b]"}, "'"),
        _replace({"Regex": "[\u201c-\u201f]"}, '"'),
    ]
    if clean == "canonicalize":
        steps += [_replace({"String": "_"}, " "), _replace(PUNCTUATION, "")]
    if clean != "whitespace":
        # Python lower-cases a sigma differently at the end of a word.
        last_sigma = {"Regex": "(?<=\\p{L})\u03a3(?!\\p{L})"}
        steps += [_replace(last_sigma, "\u03c2"), {"type": "Lowercase"}]
    steps.append(_replace(SOME_BLANKS, " "))
    return [*steps, {"type": "Strip", "strip_left": True, "strip_right": True}]


def _replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _words(pattern: Json) -> Json:
    """Keep what the pattern finds, and drop what is in between."""
    return {"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": True}


def _byte_level() -> Json:
    return {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False,
    }  # fmt: skip


def _sequence(name: str, steps: Sequence[Json]) -> Json:
    return {"type": "Sequence", name: list(steps)}


def _template(ends: dict[str, int]) -> Json:
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ends)
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    special = {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in ends.items()}
    return {
        "type": "TemplateProcessing", "single": [start, first, end],
        "pair": [start, first, end, second, end], "special_tokens": special,
    }  # fmt: skip
