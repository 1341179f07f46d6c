"""Images of different sizes on their way from a worker: one tensor, and the same behind it."""

import io
from dataclasses import replace
from functools import partial
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.multiprocessing.reductions import reduce_tensor

from fastclip.data.loading.decoding import Decoder, keeps_sizes
from fastclip.data.loading.image_batch import Packed, packed, pinned, together, unpacked
from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.pieces import PieceDataset
from fastclip.data.loading.sample_facts import SampleFacts
from fastclip.data.loading.stream import Reader
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import IndexedSource

SHAPES = [(3, 2, 4), (3, 5, 1), (3, 1, 1)]


class Ragged(IndexedSource):
    def __len__(self):
        return len(SHAPES)

    def load(self, index):
        return Sample(str(index), torch.full(SHAPES[index], index, dtype=torch.uint8), "words")


def tokens(texts):
    return torch.tensor([[len(text)] for text in texts])


def images():
    parts = torch.arange(24 + 15 + 3).byte().split([24, 15, 3])
    return [part.view(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def first_piece():
    source = Ragged()
    reader = Reader(source, source.parts(), 0, 1, seed=0, shuffle_buffer=1)
    decoder = Decoder(None, tokens, 0, any_size=True)
    facts = SampleFacts((), reader.parts)
    return next(iter(PieceDataset(reader, decoder, 3, epoch=0, cursor=None, facts=facts)))


def test_packed_images_are_one_tensor_and_come_back_as_they_were():
    whole = packed(images())
    assert whole.values.shape == (42,) and whole.values.dtype == torch.uint8
    found = unpacked(whole)
    assert [each.shape for each in found] == SHAPES
    assert all(map(torch.equal, found, images()))
    same = torch.zeros(2, 3, 4, 4).byte()
    assert packed(same) is same and unpacked(same) is same and unpacked(None) is None


def test_a_worker_sends_as_many_tensors_for_any_number_of_images(monkeypatch):
    """Each is a file that is open in both processes under torch's default way to share."""
    sent = []
    monkeypatch.setitem(
        ForkingPickler._extra_reducers, torch.Tensor, lambda t: sent.append(t) or reduce_tensor(t)
    )
    piece = first_piece()
    ForkingPickler(io.BytesIO()).dump(piece)
    assert len(piece.keys) == 3 and isinstance(piece.images, Packed)
    assert len(sent) == 3  # images, tokens, and the buffer of the cursor


def test_packed_images_are_pinned_in_one_piece(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: taken.append(t.shape) or t.clone())
    piece = first_piece().pin_memory()
    assert taken == [(42,), (3, 1)]
    assert [int(each.max()) for each in unpacked(piece.images)] == [0, 1, 2]
    assert all(map(torch.equal, pinned(images()), images())) and taken[2:] == [(42,)]
    assert replace(piece, images=None).pin_memory().images is None


@pytest.mark.parametrize("batch_size", [3, 2])
def test_loader_hands_over_lists_where_it_is_told(batch_size):
    settings = dict(batch_size=batch_size, shuffle_buffer=1, drop_last=False, pin_memory=False)
    found = [
        image for batch in PairLoader(Ragged(), None, tokens, any_size=True, **settings)
        for image in batch.images
    ]  # fmt: skip
    assert [image.shape for image in found] == SHAPES
    assert [int(image.max()) for image in found] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"transform must return one shape.* any_size=True"):
        list(PairLoader(Ragged(), None, tokens, **settings))


def test_images_of_last_pieces_are_refused_too():
    """Of two readers one has the image of one size, the other that of another."""
    same = [torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)]
    assert together(same, any_size=False).shape == (2, 3, 2, 2)
    loader = PairLoader(
        Ragged(), None, tokens, batch_size=3, shuffle_buffer=1, drop_last=False, pin_memory=False
    )
    piece = first_piece()
    loader._last_pieces = [replace(piece, images=[each], keys=["key"]) for each in images()[:2]]
    with pytest.raises(ValueError, match=r"got \[\(3, 2, 4\), \(3, 5, 1\)\]"):
        loader._rows_of_last(0, 2)


def test_a_transform_says_whether_sizes_are_kept():
    naflex = image_transform_v2(PreprocessCfg(size=32, resize_mode="naflex"), False, None, "uint8")
    assert keeps_sizes(naflex) and not keeps_sizes(partial(naflex)) and not keeps_sizes(None)
    assert not keeps_sizes(image_transform_v2(PreprocessCfg(size=32), False, None, "uint8"))
