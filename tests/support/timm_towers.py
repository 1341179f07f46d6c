"""open_clip's image towers that are timm's, in sizes that a test has time for."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.support.peers import timm


@contextlib.contextmanager
def timms_with(**sizes: object) -> Iterator[None]:
    """timm builds its models with other sizes."""
    make = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **settings: make(name, **settings | sizes))
        yield


def with_random_weights(tower: nn.Module, seed: int = 0) -> nn.Module:
    """None of its parameters is at its initial value, which may be 0."""
    torch.manual_seed(seed)
    for p in tower.parameters():
        nn.init.normal_(p, std=0.3)
    return tower


def assert_equal_gradients(ours: nn.Module, theirs: nn.Module, images: torch.Tensor) -> None:
    """In float64 and in training, with the same random numbers: features, and all gradients."""
    found = []
    for tower in (ours, theirs):
        tower.double().train()
        pixels = images.double().requires_grad_()
        torch.manual_seed(2)  # of what is dropped
        features = tower(pixels)
        features.square().sum().backward()
        of_parameters = {name: p.grad for name, p in tower.named_parameters()}
        found.append({"features": features, "pixels": pixels.grad} | of_parameters)
    for name, expected in found[1].items():
        torch.testing.assert_close(found[0][name], expected, rtol=1e-9, atol=1e-9, msg=name)


def assert_equal_intermediates(
    ours: nn.Module, theirs: nn.Module, images: torch.Tensor, **settings: object
) -> None:
    """What layers make of images, in float64 and in evaluation mode."""
    with torch.no_grad():
        found, expected = (
            tower.double().eval().forward_intermediates(images.double(), **settings)
            for tower in (ours, theirs)
        )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)
