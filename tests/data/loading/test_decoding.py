import pytest
import torch

from fastclip.data.loading.decoding import Decoder
from fastclip.data.loading.stream import Address
from fastclip.data.preprocess import image_transform
from fastclip.data.randomness import preserved_generators
from fastclip.data.sources.samples import BadSample, Sample
from tests.support.pair_files import image_bytes, to_pixels, to_tokens

HERE = Address(0, 512, 3)


@pytest.fixture(autouse=True)
def generators_as_before():
    with preserved_generators():
        yield


def decode(image, transform=to_pixels, tokenizer=to_tokens, caption="words", **where):
    decoder = Decoder(transform, tokenizer, where.pop("seed", 0))
    address = HERE._replace(**{k: v for k, v in where.items() if k != "epoch"})
    return decoder(Sample("key", image, caption), address, where.get("epoch", 0))


def test_randomness_is_that_of_sample_epoch_and_seed():
    image = image_bytes(1)
    pixels, tokens = decode(image)
    assert pixels.dtype == torch.uint8 and tokens.ids.shape == (16,)
    torch.rand(3)
    assert torch.equal(decode(image)[0], pixels)
    assert torch.equal(decode(image, position=1024)[0], pixels)  # a file may have moved
    for other in ({"epoch": 1}, {"seed": 1}, {"part": 1}, {"number": 4}):
        assert not torch.equal(decode(image, **other)[0], pixels)


def test_pixels_go_through_the_transform_or_are_taken_as_they_are():
    evaluation = image_transform((4, 6), False, output="uint8")
    pixels = torch.randint(256, (3, 4, 6), dtype=torch.uint8)
    assert torch.equal(decode(pixels, evaluation)[0], pixels)
    assert torch.equal(decode(pixels[:1], evaluation)[0], pixels[:1].expand(3, 4, 6))
    assert torch.equal(decode(pixels[:1], None)[0], pixels[:1])


@pytest.mark.parametrize(
    "image, reason",
    [
        (b"", "unusable image"),
        (b"\x89PNG no image", "unusable image"),
        ("/nowhere.png", "missing image file"),
        ("/", "unusable image"),
        ("/with\x00zero.png", "unusable image"),
        (image_bytes(1)[:-40], "unusable image"),
    ],
)
def test_a_image_that_cannot_be_used_is_bad(image, reason):
    bad = decode(image, image_transform(8, True, output="uint8"))
    assert isinstance(bad, BadSample) and bad.reason == reason and bad.detail


def test_a_very_wide_image_is_decoded_or_refused():
    wide = image_bytes(1, (20_000, 40))
    for is_train in (True, False):
        transform = image_transform(32, is_train, output="uint8")
        assert decode(wide, transform)[0].shape == (3, 32, 32)
    bad = decode(image_bytes(1, (20_000, 1)), image_transform(224, False, output="uint8"))
    assert isinstance(bad, BadSample) and "too narrow" in bad.detail


def test_a_caption_that_the_tokenizer_refuses_is_bad():
    def refuse(texts):
        raise ValueError("too long")

    bad = decode(image_bytes(1), tokenizer=refuse)
    assert bad == BadSample("key", "unusable caption", "ValueError: too long")


def test_wrong_types_of_transform_and_tokenizer_raise():
    image = image_bytes(1)
    with pytest.raises(TypeError, match=r"transform must .* got \(3, 8, 8\) torch.float32"):
        decode(image, image_transform(8, False))
    with pytest.raises(TypeError, match=r"tokenizer must .* got list"):
        decode(image, tokenizer=lambda texts: [[1]])
    with pytest.raises(TypeError, match=r"transform must .* got bytes"):
        decode(image, None)
