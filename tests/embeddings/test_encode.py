"""The one loop that encodes: what a model says of each batch, when it is asked for."""

import functools
from contextlib import contextmanager, nullcontext

import pytest
import torch

from fastclip.data.loading.loader import PairLoader
from fastclip.data.pixels import standardize
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.embeddings.encode import Encoder
from tests.support.small_models import SMALL, build

NUM, BATCH = 20, 8
PREPARE = functools.partial(standardize, mean=0.5, std=0.25)


class Pairs(IndexedSource):
    """Random images with short texts; every seventh cannot be used."""

    def __len__(self):
        return NUM

    def load(self, index):
        if index % 7 == 3:
            return BadSample(str(index), "unusable image")
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(256, (3, 32, 32), generator=generator, dtype=torch.uint8)
        return Sample(str(index), pixels, "a" * (index % 5 + 1))


def tokenize(texts):
    """An end token, the highest, behind as many others as the text is long."""
    rows = torch.zeros(len(texts), SMALL["vit"].text_cfg.context_length, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = 1
        row[len(text)] = SMALL["vit"].text_cfg.vocab_size - 1
    return rows


GOOD = [i for i in range(NUM) if i % 7 != 3]


def loader(rank=0, world_size=1):
    return PairLoader(
        Pairs(), None, tokenize, batch_size=BATCH, shuffle_buffer=1, drop_last=False, rank=rank,
        world_size=world_size, max_bad_rate=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return build(SMALL["vit"]).eval()


@pytest.fixture(scope="module")
def features(model):
    """Of all good pairs at once, with their padding."""
    samples = [Pairs().load(i) for i in GOOD]
    with torch.no_grad():
        return model(
            PREPARE(torch.stack([s.image for s in samples])),
            tokenize([s.caption for s in samples]),
        )[:2]


@pytest.mark.parametrize("output_dict", [False, True])
def test_pairs_have_the_features_of_both_sides_and_what_was_encoded(model, features, output_dict):
    model.output_dict = output_dict
    found = list(Encoder(model, PREPARE).pairs(loader()))
    model.output_dict = False
    assert [len(part.keys) for part in found] == [8, 8, 1]
    assert [key for part in found for key in part.keys] == [str(i) for i in GOOD]
    for side, expected in zip(("image_features", "text_features"), features, strict=True):
        own = torch.cat([getattr(part, side) for part in found])
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
        assert own.dtype == torch.float32 and not own.requires_grad
    assert torch.equal(found[0].images[1], Pairs().load(GOOD[1]).image)
    assert torch.equal(found[0].tokens, tokenize([Pairs().load(i).caption for i in GOOD[:8]]))


def test_images_alone_pass_on_what_stands_beside_them(model, features):
    batches = [(images, "labels", keys) for images, _, keys in loader()]
    found = list(Encoder(model, PREPARE).images(batches))
    own = torch.cat([part.image_features for part in found])
    torch.testing.assert_close(own, features[0], rtol=1e-5, atol=1e-6)
    assert all(part.text_features is None and part.tokens == "labels" for part in found)


def test_texts_are_taken_a_chunk_at_a_time_and_encoded_without_padding(model, features):
    texts, taken, widths = [Pairs().load(i).caption for i in GOOD], [], []

    def source():
        for text in texts:
            taken.append(text)
            yield text

    encode_text = model.encode_text
    model.encode_text = lambda text, **settings: (
        widths.append(text.shape[1]) or encode_text(text, **settings)
    )
    stream = Encoder(model, PREPARE).texts(source(), tokenize, chunk=5)
    first = next(stream)
    assert taken == texts[:5] and first.keys == texts[:5] and first.image_features is None
    own = torch.cat([part.text_features for part in [first, *stream]])
    del model.encode_text
    torch.testing.assert_close(own, features[1], rtol=1e-5, atol=1e-6)
    assert widths == [8, 8, 8, 8] and tokenize(["a"]).shape[1] > 8
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        Encoder(model, PREPARE).texts(texts, tokenize, chunk=0)


def test_a_batch_is_encoded_when_it_is_asked_for_and_reported_at_once(model):
    encoded, bad = [], loader()
    stream = Encoder(model, PREPARE, progress=encoded.append).pairs(bad)
    assert encoded == [] and bad.bad_samples.num_seen == 0
    next(stream)
    assert encoded == [8] and bad.bad_samples.num_seen < NUM
    list(stream)
    assert encoded == [8, 8, 1]
    assert bad.bad_samples.summary() == "3 of 20 samples are bad: 3 unusable image"


def test_every_batch_has_a_context_of_its_own_and_features_are_float32(model, features):
    entered = []

    @contextmanager
    def autocast():
        entered.append(True)
        with torch.autocast("cpu", torch.bfloat16):
            yield

    found = list(Encoder(model, PREPARE, autocast).pairs(loader()))
    assert len(entered) == len(found) == 3
    own = torch.cat([part.image_features for part in found])
    assert own.dtype == torch.float32
    difference = (own - features[0]).abs().max()
    assert 1e-4 < difference < 0.1  # products in bfloat16, and no more than that


def test_the_parts_of_several_processes_are_the_whole(model, features):
    encoder = Encoder(model, PREPARE, nullcontext, torch.device("cpu"))
    found = {
        key: row
        for rank in (0, 1, 2)
        for part in encoder.pairs(loader(rank, 3))
        for key, row in zip(part.keys, part.text_features, strict=True)
    }
    assert sorted(found, key=int) == [str(i) for i in GOOD]
    own = torch.stack([found[str(i)] for i in GOOD])
    torch.testing.assert_close(own, features[1], rtol=1e-5, atol=1e-6)
