"""The figure of zero-shot against probes."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from fastclip.evaluate import few_shot, linear_probe, zero_shot
from fastclip.evaluate.figures import probe_figure, worth_in_images

PURPLE, BLUE, GREEN = (0x82, 0x50, 0xDF), (0x09, 0x69, 0xDA), (0x1A, 0x7F, 0x37)


@pytest.fixture(scope="module")
def results():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    features = torch.eye(4)[labels] + 0.6 * torch.randn(120, 4, generator=generator)
    train, test = (features[:60], labels[:60]), (features[60:], labels[60:])
    return {
        "zero_shot": zero_shot(test[0], torch.eye(4), test[1]),
        "few_shot": few_shot(train, test, [1, 4], 2),
        "full_probe": linear_probe(train, test, c_grid=[1.0]),
    }


def test_the_figure_has_all_three_in_their_colours(results, tmp_path):
    before = plt.get_fignums()
    probe_figure(tmp_path / "a.png", **results)
    pixels = (plt.imread(tmp_path / "a.png")[..., :3] * 255).round().astype(int)
    assert pixels.shape == (702, 1170, 3)
    for color in (PURPLE, BLUE, GREEN):
        assert (pixels == np.array(color)).all(-1).sum() > 100
    assert (pixels[:, -1] == 255).all() and (pixels[-1] == 255).all()  # nothing is cut off
    assert plt.get_fignums() == before


def test_results_of_other_test_images_are_refused(results, tmp_path):
    other = zero_shot(torch.eye(4), torch.eye(4), range(4))
    with pytest.raises(ValueError, match="same test images, got zero_shot of 4, few_shot of 60"):
        probe_figure(tmp_path / "a.png", **results | {"zero_shot": other})
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    "accuracy, expected",
    [
        (0.1, "fewer than 2 images"), (0.2, "2 to 4 images"), (0.45, "4 to 8 images"),
        (0.8, "at least 8 images"),
    ],
)  # fmt: skip
def test_what_zero_shot_is_worth_is_said(accuracy, expected):
    values = {2: [0.1, 0.3], 4: [0.4, 0.4], 8: [0.4, 0.6]}
    probes = SimpleNamespace(shots=(2, 4, 8), values=values.get)
    assert worth_in_images(accuracy, probes) == f"zero-shot is worth {expected} of each class"
