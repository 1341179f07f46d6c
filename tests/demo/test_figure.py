import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from fastclip.demo.figure import Retrieved, save_figure

IMAGE = torch.zeros(1, 16, 24, dtype=torch.uint8)
GREEN, RED = (0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)


def drawn(path, examples):
    save_figure(path, [4.0, 3.0, 1.0], 64, examples, "a title")
    pixels = plt.imread(path)
    return (pixels[..., :3] * 255).round().astype(int)


def count(pixels, color):
    return int((pixels == np.array(color)).all(-1).sum())


def test_figure_marks_right_and_wrong_captions(tmp_path):
    right = Retrieved(IMAGE, "top left one", "top left one")
    wrong = Retrieved(IMAGE, "top left one", "top left two")
    only_right = drawn(tmp_path / "a.png", [right])
    only_wrong = drawn(tmp_path / "b.png", [wrong])
    assert count(only_right, GREEN) > 100 and count(only_right, RED) == 0
    assert count(only_wrong, RED) > 100 and count(only_wrong, GREEN) == 0


@pytest.mark.parametrize("num", [0, 3, 6, 9])
def test_figure_takes_any_number_of_examples(tmp_path, num):
    example = Retrieved(IMAGE, "top left one, top right two", "top left one, top right two")
    assert drawn(tmp_path / "a.png", [example] * num).shape == (728, 1690, 3)


def test_figure_leaves_the_callers_figures_alone(tmp_path):
    before = plt.get_fignums()
    drawn(tmp_path / "a.png", [])
    assert plt.get_fignums() == before
