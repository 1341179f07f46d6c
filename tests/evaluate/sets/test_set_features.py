"""One pass of encoding: every image once, in an order that loading does not change; and kept."""

import dataclasses
import shutil

import pytest
import torch

from fastclip.data.loading.loader import PairLoader
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.sets import encoding
from fastclip.evaluate.sets.encoding import SetEncoder
from fastclip.evaluate.sets.opening import Reading, open_set
from tests.support.ideal import NUM, Ideal, ideal_model
from tests.support.pair_files import image_bytes, in_process, tar_bytes

READY = ideal_model()
COMMA = Reading(separator=",")


class Counting(Ideal):
    """Counts the images that it has encoded."""

    def __init__(self):
        super().__init__()
        self.num = 0

    def forward(self, image=None, text=None):
        self.num += 0 if image is None else len(image)
        return super().forward(image, text)


def write_captions(folder, order=(0, 1, 2, 3, 4, 5)):
    """Three images, of which each is in two rows, and once in a copy of its file."""
    for i in range(3):
        (folder / f"{i}.png").write_bytes(image_bytes(i))
        (folder / f"{i}-again.png").write_bytes(image_bytes(i))
    rows = [f"{i // 2}{'-again' * (i % 2)}.png,caption {i // 2} of {i}\n" for i in order]
    (folder / "pairs.csv").write_text("filepath,title\n" + "".join(rows))
    return open_set(folder / "pairs.csv", COMMA)


def encoder(batch_size=2, ready=READY, **more):
    return SetEncoder(ready, batch_size, 0, 0.5, **more)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_an_image_of_several_captions_is_encoded_once(batch_size, tmp_path):
    model = Counting()
    found = encoder(batch_size, ideal_model(model=model)).pairs(write_captions(tmp_path))
    assert model.num == 3
    images, texts = found.image_features.argmax(1), found.text_features.argmax(1)
    assert sorted(images.tolist()) == [0, 1, 2] and sorted(texts.tolist()) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(images[found.text_to_image], texts)
    assert found.keys == sorted(found.keys) and found.text_to_image[0] == 0


class Rounding(Counting):
    """Features depend a little on the size of the batch, as those of real models do."""

    def forward(self, image=None, text=None):
        images, texts, scale = super().forward(image, text)
        if texts is not None:
            self.num_texts = getattr(self, "num_texts", 0) + len(texts)
            texts = texts * (1 - 2.0**-20 / len(texts))
        return images, texts, scale


def test_equal_captions_are_encoded_once_and_tie_whatever_batch_they_are_in(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(image_bytes(i))
    rows = [f"{i}.png,{text}\n" for i, text in enumerate(["7", "8", "8", "9", "7"])]
    (tmp_path / "pairs.csv").write_text("filepath,title\n" + "".join(rows))
    model = Rounding()
    found = encoder(2, ideal_model(model=model)).pairs(open_set(tmp_path / "pairs.csv", COMMA))
    assert found.text_features.argmax(1).tolist() == [7, 8, 8, 9, 7] and model.num_texts == 3
    assert torch.equal(found.text_features[0], found.text_features[4])
    assert torch.equal(found.text_features[1], found.text_features[2])
    first, second, third, fourth, fifth = found.captions
    assert first == fifth and second == third and len({first, second, fourth}) == 3


def test_labelled_images_are_in_the_order_of_their_keys_wherever_the_data_are(tmp_path):
    members = [
        (f"{i}.{s}", c) for i in (2, 0, 1) for s, c in (("png", image_bytes(i)), ("cls", b"1"))
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.tar").write_bytes(tar_bytes(members[:4]))
    (tmp_path / "a" / "1.tar").write_bytes(tar_bytes(members[4:]))
    found = encoder().labelled(open_set(tmp_path / "a"))
    assert found.keys == ["0.tar/0", "0.tar/2", "1.tar/1"]
    assert found.image_features.argmax(1).tolist() == [0, 2, 1]
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert encoder().labelled(open_set(tmp_path / "b")).keys == found.keys


def test_workers_change_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(100):
            (tmp_path / name / f"{i}.png").write_bytes(image_bytes(i))
    data = open_set(tmp_path)
    alone = encoder(8).labelled(data)
    monkeypatch.setattr(
        encoding, "PairLoader", lambda *args, **how: in_process(PairLoader(*args, **how))
    )
    found = SetEncoder(READY, 8, 3, 0.5).labelled(data)
    assert found.keys == alone.keys and len(found.keys) == 200
    assert torch.equal(found.image_features, alone.image_features)
    assert torch.equal(found.labels, alone.labels)


def test_bad_samples_are_counted_and_said(tmp_path):
    for name, content in (("a", image_bytes(1)), ("b", b"no image")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.png").write_bytes(content)
    (tmp_path / "data" / "a" / "notes.md").touch()
    said = []
    found = encoder(say=said.append).labelled(open_set(tmp_path / "data"))
    assert found.labels.tolist() == [0] and found.bad.counts == {"unusable image": 1}
    assert "1 .md" in said[0] and "1 of 2 samples are bad" in said[1] and "b/x.png" in said[1]
    shutil.rmtree(tmp_path / "data" / "a")
    data = open_set(tmp_path / "data")
    with pytest.raises(ValueError, match="no sample can be used"):
        SetEncoder(READY, 2, 0, 1.0).labelled(data)


def test_features_that_are_kept_are_not_encoded_again(tmp_path):
    model = Counting()
    ready = ideal_model(model=model)
    data = write_captions(tmp_path)
    first = encoder(ready=ready, folder=tmp_path / "f").pairs(data)
    said = []
    again = encoder(ready=ready, folder=tmp_path / "f", say=said.append).pairs(data)
    assert model.num == 3 and "6 features were read from" in said[0]
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(again, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def other_weights(tmp_path):
    model = Ideal()
    torch.nn.init.constant_(model.logit_scale, 3.0)
    return write_captions(tmp_path), ideal_model(model=model)


def other_preprocessing(tmp_path):
    cfg = READY.preprocess_cfg | {"interpolation": "bilinear"}
    return write_captions(tmp_path), dataclasses.replace(READY, preprocess_cfg=cfg)


def other_tokenizer(tmp_path):
    ready = dataclasses.replace(READY, tokenizer=lambda texts: torch.ones(len(texts), 1).long())
    return write_captions(tmp_path), ready


def other_configuration(tmp_path):
    model = Ideal()
    model.heads = 2
    return write_captions(tmp_path), ideal_model(model=model)


def other_data(tmp_path):
    return write_captions(tmp_path, reversed(range(6))), READY


@pytest.mark.parametrize(
    "change, message",
    [
        (other_weights, "weights"), (other_preprocessing, "preparation|images"),
        (other_tokenizer, "another tokenizer"), (other_configuration, "another configuration"),
        (other_data, "of other data"),
    ],
)  # fmt: skip
def test_features_of_anything_else_are_refused(change, message, tmp_path):
    encoder(folder=tmp_path / "f").pairs(write_captions(tmp_path))
    data, ready = change(tmp_path)
    with pytest.raises(ValueError, match=message):
        encoder(ready=ready, folder=tmp_path / "f").pairs(data)


def test_damaged_and_foreign_folders_of_features_are_refused(tmp_path):
    data = write_captions(tmp_path)
    encoder(folder=tmp_path / "f").pairs(data)
    (vectors,) = tmp_path.glob("f/*/img_emb/*.npy")
    content = bytearray(vectors.read_bytes())
    content[-3] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(ValueError):
        encoder(folder=tmp_path / "f").pairs(data)
    (tmp_path / "file").touch()
    with pytest.raises((OSError, ValueError)):
        encoder(folder=tmp_path / "file").pairs(data)


def test_features_that_are_no_numbers_are_evaluated_and_not_kept(tmp_path):
    class Diverged(Ideal):
        def forward(self, image=None, text=None):
            images, texts, scale = super().forward(image, text)
            return images if images is None else images * torch.nan, texts, scale

    said = []
    ready = ideal_model(model=Diverged())
    found = encoder(ready=ready, folder=tmp_path / "f", say=said.append).pairs(
        write_captions(tmp_path)
    )
    assert found.image_features.isnan().all() and not (tmp_path / "f").exists()
    assert said == ["pairs: the features are not stored, because some are not finite"]


def test_tokens_alone_are_encoded():
    tokens = torch.tensor([[3], [NUM - 1]])
    (found,) = Encoder.of(READY).tokens([(None, tokens, ["a", "b"])])
    assert found.text_features.argmax(1).tolist() == [3, NUM - 1]
    assert found.image_features is None and found.keys == ["a", "b"]
