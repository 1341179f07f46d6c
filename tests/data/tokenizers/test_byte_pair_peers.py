"""CLIP's vocabulary: the ids of open_clip, and directories that transformers loads."""

import random
import time

import pytest
import torch

from fastclip.data.tokenizers.byte_pairs import OPENAI_SPECIAL_TOKENS, BytePairTokenizer
from fastclip.data.tokenizers.cleaning import CLEANERS
from fastclip.data.tokenizers.openai import decode, tokenize
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from tests.support.hard_texts import HARD_TEXTS, random_texts
from tests.support.peers import open_clip, transformers

TEXTS = [*HARD_TEXTS.values(), *random_texts(400)]


@pytest.fixture(scope="module", params=CLEANERS)
def pair(request):
    """Ours and open_clip's, with the same cleaning."""
    clean = request.param
    return BytePairTokenizer(clean=clean), open_clip.SimpleTokenizer(clean=clean)


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer()


def test_ids_equal_open_clips(pair):
    ours, theirs = pair
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text), ascii(text)


@pytest.mark.parametrize("context_length", [77, 8, 2])
def test_rows_equal_open_clips(pair, context_length):
    ours, theirs = pair
    rows = ours(TEXTS, context_length=context_length)
    assert torch.equal(rows, theirs(TEXTS, context_length=context_length))
    assert torch.equal(ours("a cat"), theirs("a cat"))


def test_decoded_ids_equal_open_clips(pair):
    ours, theirs = pair
    rng = random.Random(0)
    sequences = [ours.encode(text) for text in TEXTS]
    sequences += [rng.choices(range(ours.vocab_size), k=30) for _ in range(300)]
    sequences += [rng.choices(range(512), k=30) for _ in range(300)]
    for ids in sequences:
        assert ours.decode(ids) == theirs.decode(ids)
    rows = ours(TEXTS)
    assert [ours.decode(row) for row in rows] == [theirs.decode(row.tolist()) for row in rows]


def test_attributes_equal_open_clips(pair):
    ours, theirs = pair
    for name in ["encoder", "decoder", "vocab_size", "all_special_ids", "context_length"]:
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.sot_token_id, ours.eot_token_id) == (theirs.sot_token_id, theirs.eot_token_id)
    assert (ours.sot_token_id, ours.eot_token_id) == (49406, 49407)


@pytest.mark.parametrize("clean", ["lower", "whitespace"])
def test_additional_special_tokens_equal_open_clips(clean):
    arguments = {"additional_special_tokens": ["<mask>", "<Image>"], "clean": clean}
    ours, theirs = BytePairTokenizer(**arguments), open_clip.SimpleTokenizer(**arguments)
    assert ours.all_special_ids == theirs.all_special_ids
    for text in ["a<mask>b <MASK> <image> <Image>", *TEXTS[:40]]:
        assert ours.encode(text) == theirs.encode(text)


def test_openais_spelling_gives_the_ids_of_open_clips(tokenizer):
    openai = BytePairTokenizer(special_tokens=OPENAI_SPECIAL_TOKENS)
    text = "a<|startoftext|>cat <|EndOfText|>!"
    expected = tokenizer.encode("a<start_of_text>cat <End_Of_Text>!")
    assert openai.encode(text) == expected == [320, 49406, 2368, 49407, 256]
    assert openai.encode("it’s &amp; caf\u00c3\u00a9") == tokenizer.encode("it's & café")


def test_tokenize_and_decode_equal_open_clips():
    texts = [text for text in TEXTS if len(text) < 40]
    rows = tokenize(texts, truncate=True)
    assert torch.equal(rows, open_clip.tokenize(texts))
    assert decode(rows[0]) == open_clip.decode(rows[0])


@pytest.mark.alone
def test_a_word_of_10000_letters_takes_less_than_two_seconds(tokenizer):
    word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=10_000))
    start = time.perf_counter()
    assert len(tokenizer.encode(word)) > 1_000
    assert time.perf_counter() - start < 2
    head = word[:500]
    assert tokenizer.encode(head) == open_clip.SimpleTokenizer().encode(head)


@pytest.mark.parametrize("loader", ["AutoTokenizer", "CLIPTokenizer"])
def test_saved_directory_is_loaded_by_transformers(tokenizer, tmp_path, loader):
    tokenizer.save_pretrained(tmp_path)
    theirs = getattr(transformers, loader).from_pretrained(tmp_path, local_files_only=True)
    assert isinstance(theirs, transformers.CLIPTokenizer)
    assert len(theirs) == tokenizer.vocab_size and theirs.model_max_length == 77
    assert (theirs.bos_token, theirs.eos_token) == OPENAI_SPECIAL_TOKENS
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (49406, 49407, 49407)
    assert theirs.get_vocab() == {
        token.replace("<start_of_text>", "<|startoftext|>").replace(
            "<end_of_text>", "<|endoftext|>"
        ): i
        for token, i in tokenizer.encoder.items()
    }
    for text in ["A photo of a CAT, it's 12 o'clock!", "naïve café", "一只猫", "👍🏽 😀"]:
        assert theirs(text).input_ids == [49406, *tokenizer.encode(text), 49407]


def test_saved_additional_special_tokens_are_special_to_transformers(tmp_path):
    tokenizer = BytePairTokenizer(context_length=32, additional_special_tokens=["<mask>"])
    tokenizer.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert theirs.model_max_length == 32 and 49408 in theirs.all_special_ids
    text = "a<mask> cat"
    assert theirs(text).input_ids == [49406, *tokenizer.encode(text), 49407]


def test_directories_of_both_sides_give_the_installed_vocabulary(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "ours")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "ours", local_files_only=True)
    theirs.save_pretrained(tmp_path / "theirs")
    assert find_vocabulary(tmp_path / "ours") == find_vocabulary()
    assert find_vocabulary(tmp_path / "theirs") == find_vocabulary()
    assert (tmp_path / "theirs" / "tokenizer.json").is_file()
