"""What is read and what is asked for, written out by hand on a vocabulary of eight words."""

import pytest
import torch

from fastclip.models.locca.parallel import draw_parallel, mask_of_rows
from fastclip.models.locca.sequences import (
    Words,
    caption_sequences,
    grounded_sequences,
    referring_sequences,
    together,
    words_of,
)
from fastclip.models.locca.vocabulary import LocCaVocabulary

# Words are 2 ... 5, and 6 and 7 the start and the end; the tokenizer pads with 0.
START, END = 6, 7
VOCABULARY = LocCaVocabulary(8, end_id=END, start_id=START, bins=4)
P, M, CAP, AREF, GCAP, BIN = 8, 9, 10, 11, 12, 13
TOKENS = torch.tensor([[START, 2, 3, END, 0], [START, 4, END, 0, 0]])
BOXES = torch.tensor([[0.0, 0.3, 0.6, 1.0], [0.5, 0.5, 0.9, 0.6]])
B0, B1 = [BIN, BIN + 1, BIN + 2, BIN + 3], [BIN + 2, BIN + 2, BIN + 3, BIN + 2]


@pytest.mark.fast
def test_the_order_of_the_vocabulary():
    v = VOCABULARY
    assert (v.pad, v.mask, v.cap, v.aref, v.gcap, v.first_bin) == (P, M, CAP, AREF, GCAP, BIN)
    assert v.size == 17
    written = v.can_be_written(torch.device("cpu")).nonzero()[:, 0].tolist()
    assert written == [0, 1, 2, 3, 4, 5, END]  # what pads may be a word too, as OpenAI's "!" is


def test_a_caption_and_one_in_parallel():
    words = words_of(VOCABULARY, "tokens", TOKENS)
    assert words.tokens.tolist() == [[2, 3, END, P], [4, END, P, P]]
    assert words.lengths.tolist() == [3, 2]
    found = caption_sequences(VOCABULARY, words)
    assert found.inputs.tolist() == [[CAP, 2, 3, END], [CAP, 4, END, P]]
    assert found.labels.tolist() == [[2, 3, END, P], [4, END, P, P]]
    assert found.parallel is None
    parallel = torch.tensor([True, False])
    found = caption_sequences(VOCABULARY, words, parallel)
    assert found.inputs.tolist() == [[CAP, M, M, M], [CAP, 4, END, P]]
    assert found.labels.tolist() == words.tokens.tolist() and found.parallel is parallel


def test_captions_are_chosen_on_the_cpu_of_texts_that_are_elsewhere():
    words = Words(torch.zeros(2, 4, dtype=torch.int64, device="meta"), torch.tensor([3, 2]))
    found = caption_sequences(VOCABULARY, words, draw_parallel(2))
    assert found.parallel.device.type == "meta" == found.inputs.device.type


def test_a_box_of_a_text():
    found = referring_sequences(VOCABULARY, words_of(VOCABULARY, "tokens", TOKENS), BOXES)
    assert found.inputs.tolist() == [
        [AREF, 2, 3, END, *B0],
        [AREF, 4, END, *B1, P],
    ]
    assert found.labels.tolist() == [
        [P, P, P, *B0, P],
        [P, P, *B1, P, P],
    ]


def test_a_box_and_its_text():
    found = grounded_sequences(VOCABULARY, words_of(VOCABULARY, "tokens", TOKENS), BOXES)
    assert found.inputs.tolist() == [[GCAP, *B0, 2, 3, END], [GCAP, *B1, 4, END, P]]
    assert found.labels.tolist() == [[*B0, 2, 3, END, P], [*B1, 4, END, P, P]]
    both = together(found, found)
    assert both.inputs.tolist() == found.inputs.tolist() * 2
    assert both.labels.tolist() == found.labels.tolist() * 2


def test_every_label_is_the_next_input():
    words = words_of(VOCABULARY, "tokens", TOKENS)
    for found in (
        caption_sequences(VOCABULARY, words),
        referring_sequences(VOCABULARY, words, BOXES),
        grounded_sequences(VOCABULARY, words, BOXES),
    ):
        asked = found.labels[:, :-1] != P
        assert torch.equal(found.labels[:, :-1][asked], found.inputs[:, 1:][asked])


def test_a_tokenizer_without_a_start_that_pads_with_its_end():
    v = LocCaVocabulary(8, end_id=1, pad_id=1, bins=4)
    words = words_of(v, "tokens", torch.tensor([[2, 3, 1, 1], [4, 1, 1, 1]]))
    assert words.tokens.tolist() == [[2, 3, 1, P], [4, 1, P, P]]
    assert v.can_be_written(torch.device("cpu")).nonzero()[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize(
    "tokens, error, message",
    [
        ([[START, 2, 3]], ValueError, "words must have end_id 7; row 0 has none"),
        ([[START, 2, END], [2, 3, END]], ValueError, "row 1 begins with 2"),
        ([[START, 8, END]], ValueError, r"words must be in \[0, 8\), got 8"),
        ([[START, -1, END]], ValueError, "got -1"),
        ([START, 2, END], ValueError, r"words must be \(B, T\), T >= 2, got \(3,\)"),
        ([[6.0, 2.0, 7.0]], TypeError, "words must be integers, got torch.float32"),
    ],
)
def test_texts_that_are_none_are_refused(tokens, error, message):
    with pytest.raises(error, match=message):
        words_of(VOCABULARY, "words", torch.tensor(tokens))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(num_words=0, end_id=0), "num_words must be a whole number from 1"),
        (dict(num_words=8, end_id=8), "end_id must be below num_words 8, got 8"),
        (dict(num_words=8, end_id=7, pad_id=-1), r"pad_id must be the id of a token, .*got -1"),
        (dict(num_words=8, end_id=7, start_id=7), "start_id must differ from end_id 7"),
        (dict(num_words=8, end_id=7, start_id=0), "and pad_id 0, got 0"),
        (dict(num_words=8, end_id=7, bins=0), "bins must be a whole number from 1"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LocCaVocabulary(**settings)


def test_the_masks_of_rows():
    hidden = float("-inf")
    mask = mask_of_rows(torch.tensor([False, True]), 3, torch.zeros((), dtype=torch.float64))
    assert mask.dtype == torch.float64 and mask.shape == (2, 1, 3, 3)
    assert mask[0, 0].tolist() == [[0, hidden, hidden], [0, 0, hidden], [0, 0, 0]]
    assert mask[1, 0].tolist() == [[0, 0, 0]] * 3


def test_which_captions_are_in_parallel_is_told_by_the_generator():
    drawn = [draw_parallel(4000, 0.25, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert drawn[0].dtype == torch.bool and torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert abs(drawn[0].double().mean().item() - 0.25) < 0.035  # five standard deviations
    assert not draw_parallel(50, 0.0).any() and draw_parallel(50, 1.0).all()
    assert draw_parallel(0).shape == (0,)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\]"):
            draw_parallel(3, bad)
    with pytest.raises(ValueError, match="num must not be negative, got -1"):
        draw_parallel(-1)
