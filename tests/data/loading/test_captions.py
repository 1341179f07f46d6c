"""Captions that do not fit are cut and counted, whatever the tokenizer is."""

import pickle

import pytest
import torch

import fastclip
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.loading.captions import CaptionReader
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource

ROOM = 6  # bytes


class OfBytes:
    """fastclip's tokenizer of bytes, which counts its calls; 6 bytes fit."""

    def __init__(self):
        self.tokenizer = fastclip.get_tokenizer("ViT-Mini-4-32", context_length=ROOM + 2)
        self.calls = 0

    def __call__(self, texts, truncate=True):
        self.calls += 1
        return self.tokenizer(texts, truncate=truncate)


class OfLengths(IndexedSource):
    """Captions of 1 to 20 bytes."""

    def __len__(self):
        return 20

    def load(self, index):
        return Sample(str(index), torch.zeros(1, 2, 2, dtype=torch.uint8), "x" * (index + 1))


def read(tokenizer, text):
    return CaptionReader(tokenizer)(Sample("key", None, text))


def test_cut_captions_are_noticed_and_only_they_are_tokenized_twice():
    tokenizer = OfBytes()
    reader = CaptionReader(tokenizer)
    for length in (1, ROOM - 1, ROOM, ROOM + 1, 300):
        found = reader(Sample("key", None, "x" * length))
        assert found.is_cut == (length > ROOM)
        assert torch.equal(found.ids, tokenizer.tokenizer(["x" * length])[0])
    assert tokenizer.calls == 5 + 2
    assert pickle.loads(pickle.dumps(reader))(Sample("key", None, "x" * 7)).is_cut


def test_tokenizer_without_the_argument_cuts_unnoticed():
    found = read(lambda texts: torch.ones(len(texts), 8, dtype=torch.int64), "x" * 300)
    assert found.ids.tolist() == [1] * 8 and not found.is_cut


def of_openai(texts, truncate=False):
    """Refuses as openai/CLIP's `tokenize` does, unless it is asked to cut."""
    if not truncate:
        raise RuntimeError("Input is too long for context length 77")
    return torch.zeros(len(texts), 77, dtype=torch.int64)


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (of_openai, "RuntimeError: Input is too long"),
        (WordTokenizer(["one"], 9), "ValueError: text has 75"),
    ],
)
def test_tokenizer_that_refuses_makes_the_sample_bad(tokenizer, reason):
    found = read(tokenizer, "one " * 75)
    assert isinstance(found, BadSample) and found.detail.startswith(reason)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_counts_them_in_each_epoch_and_over_a_resume(num_workers):
    def loader():
        return PairLoader(
            OfLengths(), None, OfBytes(), batch_size=5, shuffle_buffer=1, num_workers=num_workers
        )

    whole = loader()
    for _ in range(2):
        list(whole)
    assert whole.bad_samples.num_cut == 2 * (20 - ROOM)
    first, second = loader(), loader()
    batches = iter(first)
    next(batches)
    second.load_state_dict(first.state_dict())
    list(second)
    assert second.bad_samples == whole_epoch(loader())


def whole_epoch(loader):
    list(loader)
    return loader.bad_samples
