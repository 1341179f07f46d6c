import pytest
import torch

from fastclip.data.digits.tokenizer import WordTokenizer

CAPTIONS = ["top left three", "top right seven, bottom left three"]


def test_round_trip_returns_the_words():
    tokenizer = WordTokenizer.learn(CAPTIONS)
    for caption in CAPTIONS:
        assert tokenizer.decode(tokenizer(caption)[0]) == caption.replace(",", "")


def test_tokens_are_start_words_end_padding():
    tokenizer = WordTokenizer(["left", "three", "top"], context_length=6)
    tokens = tokenizer(["Top left, three", "top"])
    assert tokens.dtype == torch.int64
    start, end = tokenizer.vocab_size - 2, tokenizer.vocab_size - 1
    assert tokens.tolist() == [[start, 4, 2, 3, end, 0], [start, 4, end, 0, 0, 0]]


def test_end_token_is_found_by_argmax():
    tokenizer = WordTokenizer.learn(CAPTIONS)
    tokens = tokenizer([*CAPTIONS, ""])
    assert tokens.argmax(-1).tolist() == [4, 7, 1]


def test_learn_sorts_words_and_takes_the_longest_length():
    tokenizer = WordTokenizer.learn(CAPTIONS)
    assert tokenizer.words == ["bottom", "left", "right", "seven", "three", "top"]
    assert tokenizer.context_length == 8


def test_unknown_words_share_a_token():
    tokenizer = WordTokenizer.learn(CAPTIONS)
    assert torch.equal(tokenizer("top zebra"), tokenizer("top giraffe"))
    assert tokenizer.decode(tokenizer("top zebra")[0]) == "top <unk>"


def test_text_that_does_not_fit_raises_and_names_it():
    tokenizer = WordTokenizer(["top"], context_length=4)
    assert tokenizer("top top").shape == (1, 4)
    with pytest.raises(ValueError, match="3 words, but context_length 4 holds only 2: 'top"):
        tokenizer(["top", "top top top"])


def test_truncation_keeps_the_end_token():
    tokenizer = WordTokenizer(["top"], context_length=4)
    assert torch.equal(tokenizer("top top top", truncate=True), tokenizer("top top"))


def test_rebuilt_tokenizer_gives_the_same_tokens():
    tokenizer = WordTokenizer.learn(CAPTIONS, context_length=12)
    rebuilt = WordTokenizer(**tokenizer.to_dict())
    assert torch.equal(rebuilt(CAPTIONS), tokenizer(CAPTIONS))


def test_no_texts_give_no_rows():
    assert WordTokenizer(["top"], context_length=4)([]).shape == (0, 4)


@pytest.mark.parametrize(
    "words, context_length, message",
    [
        (["top", "top"], 4, "repeat"),
        (["top left"], 4, "top left"),
        (["Top"], 4, "Top"),
        (["<pad>"], 4, "<pad>"),
        (["top"], 1, "context_length"),
    ],
)
def test_tokenizer_rejects_a_bad_vocabulary(words, context_length, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(words, context_length)


def test_learn_rejects_captions_without_a_word():
    with pytest.raises(ValueError, match="at least one word"):
        WordTokenizer.learn(["", "..."])


def test_import_needs_no_package_of_the_other_tokenizers(fresh_process):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('ftfy', 'regex', 'transformers'))); "
        "import fastclip.data.digits.tokenizer"
    )
    done = fresh_process.run(code)
    assert done.returncode == 0, done.stderr
