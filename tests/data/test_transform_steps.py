"""Transforms taken apart, as code that was written for torchvision's does it."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data.preprocess import PreprocessCfg, image_transform, image_transform_v2
from fastclip.data.transform_steps import Normalize, Resize, ToTensor
from tests.support.images import random_image
from tests.support.peers import open_clip

EVALUATED = {
    "shortest": {"image_size": 48},
    "not square": {"image_size": (36, 52)},
    "longest": {"image_size": 48, "resize_mode": "longest", "fill_color": 9},
    "squash": {"image_size": 48, "resize_mode": "squash", "interpolation": "bilinear"},
}


def both(is_train=False, **settings):
    return image_transform(is_train=is_train, **settings), open_clip.transform.image_transform(
        is_train=is_train, **settings
    )


@pytest.mark.parametrize("settings", EVALUATED.values(), ids=EVALUATED)
def test_what_is_read_off_the_steps_is_open_clips(settings):
    ours, theirs = both(**settings)
    size = theirs.transforms[0].size
    assert ours.transforms[0].size == (tuple(size) if isinstance(size, list) else size)
    assert ours.transforms[-1].mean == theirs.transforms[-1].mean
    assert ours.transforms[-1].std == theirs.transforms[-1].std
    assert len(ours.transforms) == len(theirs.transforms)


def test_training_steps_say_size_scale_and_ratio():
    ours, theirs = both(True, image_size=48, aug_cfg={"scale": (0.5, 1.0)})
    for name in ("size", "scale", "ratio"):
        assert tuple(getattr(ours.transforms[0], name)) == tuple(
            getattr(theirs.transforms[0], name)
        )
    assert ours.transforms[-1].mean == theirs.transforms[-1].mean


@pytest.mark.parametrize("settings", EVALUATED.values(), ids=EVALUATED)
@pytest.mark.parametrize("cut", range(1, 5))
def test_slices_composed_by_torchvision_are_the_whole(settings, cut):
    from torchvision.transforms import Compose

    ours, theirs = both(**settings)
    image = random_image("RGB", 61, 47)
    halves = Compose(ours.transforms[:cut]), Compose(ours.transforms[cut:])
    assert torch.equal(halves[1](halves[0](image)), theirs(image))
    if cut == 1:  # what is done to the image first is done alike
        assert halves[0](image).tobytes() == theirs.transforms[0](image).tobytes()


def test_steps_before_normalisation_leave_values_in_the_unit_range():
    ours, theirs = both(image_size=48)
    image = random_image("RGB", 61, 47)
    value = image
    for step in ours.transforms[:-1]:
        value = step(value)
    assert 0 <= value.min() and value.max() <= 1 and value.max() > 0.5
    expected = image
    for step in theirs.transforms[:-1]:
        expected = step(expected)
    assert torch.equal(value, expected)
    assert torch.equal(ours.transforms[-1](value), ours(image))
    assert torch.equal(value, expected)  # a step leaves what it is given as it is


def test_a_changed_list_is_what_a_call_does():
    transform = image_transform(48, is_train=False)
    image = random_image("RGB", 61, 47)
    transform.transforms[0] = Resize((48, 48))
    assert torch.equal(transform(image), image_transform(48, False, resize_mode="squash")(image))
    transform.transforms.pop()
    assert transform(image).min() >= 0
    assert transform != image_transform(48, is_train=False)
    assert pickle.loads(pickle.dumps(transform)) == transform
    with pytest.raises(AttributeError):
        transform.transforms = []  # would not be seen by `cfg`; the list can be changed


@pytest.mark.parametrize("is_train", [False, True])
def test_printed_transform_has_a_line_for_each_step(is_train):
    transform = image_transform(48, is_train, aug_cfg={"gray_scale_prob": 0.2})
    lines = str(transform).splitlines()
    assert lines[0] == f"{type(transform).__name__}(" and lines[-1] == ")"
    assert [line.split("(")[0].strip() for line in lines[1:-1]] == [
        type(step).__name__ for step in transform.transforms
    ]
    assert "size=48" in lines[1] if not is_train else "size=(48, 48)" in lines[1]
    assert f"mean={transform.cfg.mean}" in lines[-2]


def test_pixels_are_the_last_step_of_a_transform_to_uint8():
    transform = image_transform_v2(PreprocessCfg(48), False, output="uint8")
    assert transform(random_image("RGB", 61, 47)).dtype == torch.uint8
    assert not any(isinstance(step, Normalize | ToTensor) for step in transform.transforms)


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "CMYK"])
def test_first_step_alone_interpolates_colours(mode):
    image = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) * 21)
    if mode != "I;16":
        image = random_image("RGB", 48, 64).convert(mode)
    transform = image_transform(32, is_train=False)
    assert torch.equal(
        image_transform(32, False).transforms[-1](
            ToTensor()(
                transform.transforms[2](transform.transforms[1](transform.transforms[0](image)))
            )
        ),
        transform(image),
    )
    assert transform.transforms[0](image).mode != "P"
