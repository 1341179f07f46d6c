import pytest
import torch

from fastclip.demo import loss_memory
from fastclip.losses.clip import ClipLoss


def test_dense_loss_that_is_measured_is_the_loss_that_is_trained():
    generator = torch.Generator().manual_seed(0)
    image_features, text_features = torch.nn.functional.normalize(
        torch.randn(2, 9, 5, generator=generator), dim=-1
    )
    dense = loss_memory.dense_loss(image_features, text_features, 14.3)
    fused = ClipLoss()(image_features, text_features, 14.3)
    torch.testing.assert_close(fused, dense)


def test_measured_memory_tells_the_losses_apart():
    fused = loss_memory.measure_peak_bytes("fused", 3072, 16, backend="chunked")
    dense = loss_memory.measure_peak_bytes("dense", 3072, 16)
    logits = 4 * 3072**2
    assert dense > 2 * logits
    assert 0 < fused < dense


def test_measuring_reports_why_it_failed():
    with pytest.raises(ValueError, match="sparse"):
        loss_memory.measure_peak_bytes("sparse", 64, 8)
    with pytest.raises(RuntimeError, match=r"fused loss failed.*nonsense"):
        loss_memory.measure_peak_bytes("fused", 64, 8, backend="nonsense")
