"""tokenizer.json, read by the tokenizers library, gives the ids of our tokenizers."""

import json

import pytest
import torch

from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.tokenizers import tokenizer_check
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.data.tokenizers.cleaning import repair
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.tokenizer_check import TEXTS, check_tokenizer_json
from fastclip.data.tokenizers.tokenizer_json import write_tokenizer_json
from tests.support.hard_texts import HARD_TEXTS
from tests.support.merges import random_vocabulary
from tests.support.peers import transformers

tokenizers = pytest.importorskip("tokenizers")
# Start and end spelled out beside punctuation, and a mark that `byte_pairs.py` tells of.
UNLIKE = {"almost special tokens", "special token with a long s"}
UNLIKE |= {"iota below, of no class when case is ignored", "special tokens in upper case"}
NO_SURROGATES = {name: text for name, text in HARD_TEXTS.items() if name != "surrogates"}
# What neither ftfy nor entities change.
PLAIN = {n: t for n, t in NO_SURROGATES.items() if repair(t) == t.strip() and n not in UNLIKE}
PLAIN = {name: text[:1000] for name, text in PLAIN.items()}


def written(tokenizer, directory):
    write_tokenizer_json(tokenizer, directory)
    return tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))


def small(**settings):
    return BytePairTokenizer(random_vocabulary(300, "acdegiorst"), **settings)


@pytest.fixture(scope="module", params=["OpenAI's", "whitespace", "canonicalize"])
def pair(request, tmp_path_factory):
    if request.param == "OpenAI's":
        tokenizer = BytePairTokenizer()
    else:
        tokenizer = small(clean=request.param)
    return tokenizer, written(tokenizer, tmp_path_factory.mktemp("byte_pairs"))


def test_rows_of_plain_texts_are_ours(pair):
    ours, file = pair
    assert len(PLAIN) > 25
    for name, text in PLAIN.items():
        assert file.encode(text).ids == ours(text)[0].tolist(), name


def test_quotes_of_telephones_are_straightened(pair):
    ours, file = pair
    text = "it’s “smart” and I‘m not"
    assert file.encode(text).ids == ours(text)[0].tolist()


@pytest.mark.parametrize("length", [9, 2])
def test_texts_are_cut_and_filled_as_ours(tmp_path, length):
    ours = small(context_length=length)
    file = written(ours, tmp_path)
    texts = ["a", "a cat and a dog, and all of their friends", ""]
    assert [row.ids for row in file.encode_batch(texts)] == ours(texts).tolist()


def test_padding_that_a_program_sets_itself_is_ours(tmp_path):
    """As immich does, by the name in tokenizer_config.json."""
    ours = small(context_length=12)
    file = written(ours, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 12
    pad = settings["pad_token"]
    file.enable_padding(length=12, pad_token=pad, pad_id=file.token_to_id(pad))
    file.enable_truncation(max_length=12)
    assert file.encode("Wow! a cat!").ids == ours("Wow! a cat!")[0].tolist()


def test_special_tokens_in_a_text_are_themselves(tmp_path):
    ours = small(additional_special_tokens=["<mask>"])
    file = written(ours, tmp_path)
    for text in ["a<mask>cat <START_OF_TEXT> b<end_of_text>", "start of text"]:
        assert file.encode(text).ids == ours(text)[0].tolist()


def test_decoding_gives_the_text(pair):
    ours, file = pair
    ids = [i for i in ours("a naïve cat 's tail")[0].tolist() if i]
    assert "a naïve cat" in file.decode(ids)


def test_words_of_the_digits_are_ours(tmp_path):
    ours = WordTokenizer.learn(["three red sixes", "a blue one_two"])
    file = written(ours, tmp_path)
    texts = ["Three, RED sixes", "one_two <end> é", "", "a " * 40, "blue-red 3"]
    rows = [row.ids for row in file.encode_batch(texts)]
    assert rows == ours(texts, truncate=True).tolist()


@pytest.fixture
def word_pieces(tmp_path):
    from tokenizers import models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "##s", "photo", "of", "!", "'", "s"]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    special["sep_token"] = "[SEP]"
    directory = tmp_path / "word_pieces"
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_rows_of_hugging_faces_tokenizers_are_ours(word_pieces, tmp_path, clean):
    ours = HFTokenizer(word_pieces, context_length=8, clean=clean)
    file = written(ours, tmp_path)
    texts = ["a  photo of cats!", "A CAT's", "it’s", "a " * 20, ""]
    assert [row.ids for row in file.encode_batch(texts)] == ours(texts).tolist()


def test_what_the_format_cannot_say_is_refused(word_pieces, tmp_path):
    stripping = HFTokenizer(word_pieces, context_length=8, strip_sep_token=True)
    with pytest.raises(ValueError, match="strip_sep_token"):
        write_tokenizer_json(stripping, tmp_path)
    with pytest.raises(TypeError, match="a function cannot be written"):
        write_tokenizer_json(written, tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_check_counts_what_only_a_repair_makes_the_same(tmp_path):
    tokenizer = small()
    write_tokenizer_json(tokenizer, tmp_path)
    check = check_tokenizer_json(tokenizer, tmp_path)
    assert check.num_texts == len(TEXTS) == check.num_same + len(check.repaired)
    assert check.repaired == list(TEXTS[-6:]) and check.wrong == []


def test_check_finds_a_tokenizer_of_other_ids(tmp_path):
    write_tokenizer_json(small(clean="whitespace"), tmp_path)
    check = check_tokenizer_json(small(), tmp_path)
    assert "A Photo of TWO DOGS, and a fire-engine!" in check.wrong
    assert "a photo of a cat." not in check.wrong
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot read tokenizer\.json"):
        tokenizer_check.check_tokenizer_json(small(), tmp_path)


def test_check_takes_tokenizers_that_return_any_kind_of_integer(tmp_path):
    words = WordTokenizer.learn(["a cat"])
    write_tokenizer_json(words, tmp_path)
    check = check_tokenizer_json(lambda *a, **k: words(*a, **k).to(torch.int32), tmp_path)
    assert check.num_same == check.num_texts
