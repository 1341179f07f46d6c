"""Boxes become bins and come back within half a bin; what is no box is refused by its value."""

import pytest
import torch

from fastclip.models.locca.boxes import dequantize_boxes, iou_of_pairs, quantize_boxes

NAN = float("nan")


@pytest.mark.fast
def test_bins_by_hand():
    boxes = torch.tensor([[0.0, 0.1, 0.25, 1.0], [0.49, 0.5, 0.5, 0.5]])
    bins = quantize_boxes(boxes, 4)
    assert bins.dtype == torch.int64
    assert bins.tolist() == [[0, 0, 1, 3], [1, 2, 2, 2]]
    back = dequantize_boxes(bins, 4)
    assert back.dtype == torch.float32
    assert back.tolist() == [[0.125, 0.125, 0.375, 0.875], [0.375, 0.625, 0.625, 0.625]]


@pytest.mark.parametrize(
    "bins, dtype", [(1, torch.float32), (7, torch.float64), (500, torch.float32),
                    (1000, torch.float64), (1000, torch.bfloat16)],
)  # fmt: skip
def test_a_coordinate_comes_back_within_half_a_bin(bins, dtype):
    generator = torch.Generator().manual_seed(bins)
    corners = torch.rand(400, 2, 2, generator=generator, dtype=torch.float64)
    edges = torch.arange(bins + 1, dtype=torch.float64)[:400] / bins  # of the bins themselves
    corners[: len(edges), 0] = edges[:, None]
    corners[: len(edges), 1] = edges[:, None]
    boxes = corners.sort(1).values.flatten(1).to(dtype)
    back = dequantize_boxes(quantize_boxes(boxes, bins), bins)
    assert (back.double() - boxes.double()).abs().max() <= 0.5 / bins + 2**-24
    # A box of the middles of bins is itself.
    assert torch.equal(quantize_boxes(back, bins), quantize_boxes(boxes, bins))


@pytest.mark.parametrize(
    "box, message",
    [
        ([-0.1, 0, 1, 1], r"got \[-0\.1"),
        ([0, 0, 1, 1.5], r"1\.5\]"),
        ([0.5, 0, 0.25, 1], r"got \[0\.5, 0\.0, 0\.25, 1\.0\]"),
        ([0, 0.75, 1, 0.5], r"got \[0\.0, 0\.75, 1\.0, 0\.5\]"),
        ([0, 0, NAN, 1], "nan"),
        ([0, 0, 1], r"boxes must be \(\.\.\., 4\), got \(2, 3\)"),
    ],
)
def test_what_is_no_box_is_refused(box, message):
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0][: len(box)], box])
    with pytest.raises(ValueError, match=message):
        quantize_boxes(boxes, 10)


def test_bins_that_are_none_and_other_kinds_are_refused():
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        quantize_boxes(torch.zeros(4, dtype=torch.int64), 10)
    with pytest.raises(ValueError, match="bins must be a whole number from 1"):
        quantize_boxes(torch.zeros(4), 0)
    for number in (-1, 10):
        with pytest.raises(ValueError, match=rf"bins in \[0, 10\), got {number}"):
            dequantize_boxes(torch.tensor([0, 0, number, 9]), 10)
    with pytest.raises(ValueError, match=r"quantized must be \(\.\.\., 4\), got \(3,\)"):
        dequantize_boxes(torch.zeros(3, dtype=torch.int64), 10)


def test_iou_by_hand():
    boxes = torch.tensor(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.2, 1.0], [0.3, 0.3, 0.3, 0.3],
         [0.3, 0.3, 0.3, 0.3], [0.2, 0.2, 0.4, 0.4]],
        dtype=torch.float64,
    )  # fmt: skip
    others = torch.tensor(
        [[0.25, 0.0, 0.75, 0.5], [0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3],
         [0.4, 0.3, 0.4, 0.3], [0.0, 0.0, 1.0, 1.0]],
        dtype=torch.float64,
    )  # fmt: skip
    expected = torch.tensor([1 / 3, 1.0, 0.0, 1.0, 0.0, 0.04], dtype=torch.float64)
    for found in (iou_of_pairs(boxes, others), iou_of_pairs(others, boxes)):
        assert (found - expected).abs().max() < 1e-15
    with pytest.raises(ValueError, match="one shape, got"):
        iou_of_pairs(boxes, others[:2])
