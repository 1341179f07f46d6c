"""With small vocabularies that need nothing installed; test_byte_pair_peers.py has CLIP's."""

import pickle
import random
import time
from itertools import pairwise

import pytest
import torch

import fastclip
from fastclip.data.tokenizers import byte_pairs
from fastclip.data.tokenizers.arguments import TextTooLong
from fastclip.data.tokenizers.byte_pairs import (
    OPENAI_SPECIAL_TOKENS,
    BytePairTokenizer,
)
from fastclip.data.tokenizers.cleaning import lower
from fastclip.data.tokenizers.openai_vocabulary import find_vocabulary
from fastclip.data.tokenizers.vocabulary import BytePairVocabulary
from tests.support.hard_texts import HARD_TEXTS, random_texts
from tests.support.merges import random_vocabulary

CAT = BytePairVocabulary((("c", "a"), ("t", "s</w>"), ("ca", "t</w>"), ("ca", "ts</w>")))
START, END = 516, 517


@pytest.fixture
def tokenizer():
    return BytePairTokenizer(CAT, context_length=8)


def tokens_of(tokenizer, text):
    return [tokenizer.decoder[i] for i in tokenizer.encode(text)]


def merge_by_definition(symbols, merges):
    """For one merge after the other, in order of rank, everywhere from the left; then again."""
    while True:
        pairs = list(pairwise(symbols))
        ranked = [merge for merge in merges if merge in pairs]
        if not ranked:
            return symbols
        first, merged, i = ranked[0], [], 0
        while i < len(symbols):
            if tuple(symbols[i : i + 2]) == first:
                merged.append("".join(first))
                i += 2
            else:
                merged.append(symbols[i])
                i += 1
        symbols = merged


def test_rows_are_start_words_end_padding(tokenizer):
    ids = tokenizer(["Cats, cat", ""])
    assert ids.dtype == torch.int64
    comma = tokenizer.encoder[",</w>"]
    assert ids.tolist() == [[START, 515, comma, 514, END, 0, 0, 0], [START, END, 0, 0, 0, 0, 0, 0]]
    assert ids.argmax(-1).tolist() == [4, 1]
    assert tokenizer("cat").shape == (1, 8) and tokenizer([]).shape == (0, 8)
    assert tokenizer("cat", context_length=5).tolist() == [[START, 514, END, 0, 0]]


def test_attributes_are_open_clips(tokenizer):
    assert issubclass(fastclip.SimpleTokenizer, BytePairTokenizer)
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (START, END)
    assert tokenizer.all_special_ids == [START, END]
    assert tokenizer.vocab_size == len(tokenizer.encoder) == len(tokenizer.decoder) == 518
    assert all(tokenizer.decoder[i] == token for token, i in tokenizer.encoder.items())


@pytest.mark.parametrize(
    "text, words",
    [
        ("it's IT'LL don’t", ["it", "'s", "it", "'ll", "don", "'t"]),
        ("'sample 'd'd", ["'s", "ample", "'d", "'d"]),
        ("a12b ½", ["a", "1", "2", "b", "½"]),
        ("x²!? #a_b", ["x", "²", "!?", "#", "a", "_", "b"]),
    ],
)
def test_words_are_contractions_letters_digits_and_the_rest(tokenizer, text, words):
    assert tokenizer.decode(tokenizer.encode(text)) == "".join(word + " " for word in words)


@pytest.mark.parametrize("seed", range(8))
def test_merging_is_by_rank_then_from_the_left(seed):
    vocabulary = random_vocabulary(40, "ab", seed)
    tokenizer = BytePairTokenizer(vocabulary)
    rng = random.Random(seed)
    for length in [1, 2, 3, 5, 8, 13, 21, 60, 200]:
        word = "".join(rng.choices("ab", k=length))
        symbols = [*word[:-1], word[-1] + "</w>"]
        assert tokens_of(tokenizer, word) == merge_by_definition(symbols, vocabulary.merges)


@pytest.mark.alone
def test_merging_a_long_word_is_not_quadratic():
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokenizer = BytePairTokenizer(random_vocabulary(2_000, letters))
    word = "".join(random.Random(0).choices(letters, k=100_000))
    start = time.perf_counter()
    assert tokens_of(tokenizer, word)[-1].endswith("</w>")
    assert time.perf_counter() - start < 5


def test_any_text_is_encoded_and_decoded_to_its_words(tokenizer):
    for text in [*HARD_TEXTS.values(), *random_texts(50)]:
        ids = tokenizer.encode(text)
        assert all(0 <= i <= END for i in ids), ascii(text)
        # A mark that is a lower-case letter's other form: OpenAI's expression matches it nowhere.
        expected = lower(text).replace("\u0345", "")
        assert "".join(tokenizer.decode(ids).split()) == "".join(expected.split()), ascii(text)


def test_literal_special_tokens_are_special_in_the_spelling_that_was_chosen(tokenizer):
    openai = BytePairTokenizer(CAT, special_tokens=OPENAI_SPECIAL_TOKENS)
    ours, theirs = "cat<start_of_text>cat <END_OF_TEXT>", "cat<|startoftext|>cat <|ENDOFTEXT|>"
    assert tokenizer.encode(ours) == openai.encode(theirs) == [514, START, 514, END]
    assert START not in tokenizer.encode(theirs) and START not in openai.encode(ours)
    assert openai.decode([START, 514, END]) == "<|startoftext|>cat <|endoftext|>"


def test_special_tokens_in_upper_case_are_one_word_but_not_special_if_the_case_is_kept():
    tokenizer = BytePairTokenizer(CAT, clean="whitespace")
    pieces = tokens_of(tokenizer, "<START_OF_TEXT>")
    assert pieces == [*"<START_OF_TEXT", "></w>"]
    assert tokenizer.encode("<start_of_text>") == [START]


def test_additional_special_tokens_follow_start_and_end():
    tokenizer = BytePairTokenizer(CAT, additional_special_tokens=["<mask>", "[x|y]"])
    assert tokenizer.all_special_ids == [516, 517, 518, 519]
    assert tokenizer.encode("cat<mask>[x|y]cat") == [514, 518, 519, 514]
    assert tokenizer.encode("x y") == [tokenizer.encoder["x</w>"], tokenizer.encoder["y</w>"]]
    assert tokenizer.decode([514, 518]) == "cat <mask>"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"context_length": 1}, "context_length must be at least 2, got 1"),
        ({"clean": "upper"}, "clean must be one of .* got 'upper'"),
        ({"additional_special_tokens": ["<a b>"]}, "visible ASCII characters, got '<a b>'"),
        ({"additional_special_tokens": ["é"]}, "visible ASCII characters, got 'é'"),
        ({"additional_special_tokens": [""]}, "visible ASCII characters, got ''"),
        ({"additional_special_tokens": ["cats</w>"]}, "must be new .* got 'cats</w>'"),
        ({"additional_special_tokens": ["<end_of_text>"]}, "must be new .* got '<end_of_text>'"),
        ({"special_tokens": ("<a>", "<a>")}, "must be new .* got '<a>'"),
        ({"special_tokens": ("<a>",)}, "must be two, start and end"),
    ],
)
def test_bad_arguments_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer(CAT, **arguments)


def test_vocabulary_may_be_a_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        BytePairTokenizer(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        BytePairTokenizer(str(tmp_path / "missing"))


def test_truncation_keeps_the_end_token(tokenizer):
    assert torch.equal(tokenizer("cat " * 7), tokenizer("cat " * 6))
    assert tokenizer("cat " * 7)[0, -1] == END
    assert tokenizer("cat", context_length=2).tolist() == [[START, END]]


def test_text_that_does_not_fit_raises_if_it_may_not_be_truncated(tokenizer):
    fits = tokenizer("cat " * 6, truncate=False)
    assert torch.equal(fits, tokenizer("cat " * 6))
    with pytest.raises(TextTooLong, match=r"9 tokens .* context_length is 8: 'cat cat"):
        tokenizer(["cat", "cat " * 7], truncate=False)
    with pytest.raises(TextTooLong, match="context_length is 4"):
        tokenizer("cat " * 3, context_length=4, truncate=False)


def test_call_rejects_what_it_cannot_tokenize(tokenizer):
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got int: 3"):
        tokenizer(["cat", 3])
    with pytest.raises(TypeError, match="text must be a string, got int: 3"):
        tokenizer.encode(3)
    with pytest.raises(ValueError, match="context_length must be at least 2, got 0"):
        tokenizer("cat", context_length=0)


def test_decode_takes_tensors_lists_and_cut_characters(tokenizer):
    ids = tokenizer.encode("cats, é")
    assert tokenizer.decode(ids) == tokenizer.decode(torch.tensor(ids)) == "cats , é "
    assert tokenizer.decode(ids[:-1]) == "cats , �"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(tokenizer("cat")[0]) == "<start_of_text>cat <end_of_text>!!!!!"


def test_decode_rejects_unknown_ids_and_batches(tokenizer):
    for unknown in (-1, 518):
        with pytest.raises(ValueError, match=rf"ids must be in \[0, 518\), got {unknown}"):
            tokenizer.decode([514, unknown])
    with pytest.raises(ValueError, match=r"one dimension, got shape \(1, 8\)"):
        tokenizer.decode(tokenizer("cat"))


def test_a_bounded_number_of_words_is_remembered(tokenizer, monkeypatch):
    monkeypatch.setattr(byte_pairs, "REMEMBERED_WORDS", 5)
    texts = [f"<start_of_text> cat{chr(97 + i)} cats" for i in range(20)]
    for text in texts:
        assert tokenizer.encode(text) == BytePairTokenizer(CAT).encode(text)
        assert len(tokenizer._remembered) <= 5
    size = len(tokenizer._remembered)
    tokenizer.encode("c" * (byte_pairs.REMEMBERED_LENGTH + 1))
    assert len(tokenizer._remembered) == size


def test_callers_may_change_the_ids_that_they_got(tokenizer):
    tokenizer.encode("cat").append(1)
    assert tokenizer.encode("cat") == [514]


def test_tokenizer_can_be_sent_to_another_process(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(copy("Cats &amp; cat"), tokenizer("Cats &amp; cat"))


def test_saved_directory_is_read_back(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "new" / "directory")
    written = {path.name for path in (tmp_path / "new" / "directory").iterdir()}
    assert written == {
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }
    assert find_vocabulary(tmp_path / "new" / "directory", num_merges=4) == CAT


def test_saved_start_and_end_are_not_additional_special_tokens_too(tmp_path):
    tokenizer = BytePairTokenizer(CAT, additional_special_tokens=["<|endoftext|>"])
    with pytest.raises(ValueError, match=r"must not be .* or <\|endoftext\|>"):
        tokenizer.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
