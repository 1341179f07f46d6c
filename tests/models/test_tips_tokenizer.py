"""TIPS's tokenizer is the one of transformers, on texts as they are."""

import json

import pytest

import fastclip
from fastclip.data.tokenizers import hugging_face
from tests.support.peers import transformers
from tests.support.tips_towers import TIPS, small

TEXTS = ["A Cat", "dog &amp;  cat", "caf\u00c3\u00a9 \u2019", ""]


def write_tokenizer(directory):
    """A small tokenizer of TIPS's kind; returns transformers' own."""
    from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

    pieces = ["<pad>", "<unk>", *"\u2581abcdefghijklmnopqrstuvwxyz", "\u2581c", "at", "\u2581cat"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    theirs = Tipsv2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("\u2581", "c"), ("a", "t"), ("\u2581c", "at")],
    )
    theirs.save_pretrained(directory)
    return theirs


@pytest.mark.fast
def test_ids_are_transformers_padded_with_0(tmp_path):
    fastclip.save_pretrained(small(), tmp_path / "hf", layout="hf")
    theirs = write_tokenizer(tmp_path / "hf")
    tokenizer = fastclip.get_tokenizer(str(tmp_path / "hf"))
    expected = theirs(TEXTS, padding="max_length", max_length=9, truncation=True).input_ids
    found = tokenizer(TEXTS)
    assert found.tolist() == expected
    assert tokenizer.context_length == TIPS.text_cfg.context_length
    assert found[0].tolist() == [2, 3, 31, 0, 0, 0, 0, 0, 0] and not found[3].any()


def test_without_its_file_it_is_missed_by_name(tmp_path, monkeypatch):
    fastclip.save_pretrained(small(), tmp_path / "hf", layout="hf")
    with pytest.raises(FileNotFoundError, match="has no tokenizer: copy the files"):
        fastclip.get_tokenizer(str(tmp_path / "hf"))

    def offline(*args, **settings):
        raise OSError("there is no connection")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", offline)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer 'google/tipsv2-so400m14'.*download"):
        fastclip.get_tokenizer("TIPS-v2-SO400M-14")


def test_a_vocabulary_of_sentencepiece_asks_for_that_package(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "tipsv2"}))
    (tmp_path / "tokenizer.model").write_bytes(b"\n")

    def unknown(*args, **settings):
        raise ValueError("Unrecognized configuration class")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", unknown)
    monkeypatch.setattr(hugging_face, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install sentencepiece"):
        fastclip.HFTokenizer(tmp_path)
    monkeypatch.setattr(hugging_face, "find_spec", lambda name: "is there")
    with pytest.raises(ValueError, match="Unrecognized"):
        fastclip.HFTokenizer(tmp_path)
    monkeypatch.setattr(hugging_face, "find_spec", lambda name: None)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="Unrecognized"):
        fastclip.HFTokenizer(tmp_path)
