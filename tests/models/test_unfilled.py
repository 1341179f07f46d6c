"""Models without values: shapes are those of a model with values, and no compiler is imported."""

import torch
from torch import nn

from fastclip.models.unfilled import unfilled
from tests.support.ready import digits_checkpoint


def layers():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 4), nn.Conv2d(1, 2, 3))


def shapes(model):
    return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}


def test_modules_have_shapes_and_no_values():
    with unfilled():
        empty, scaled = layers(), nn.Parameter(0.5 * torch.randn(2, 3))
    assert shapes(empty) == shapes(layers()) and scaled.shape == (2, 3)
    assert {value.device.type for value in [scaled, *empty.parameters()]} == {"meta"}
    assert (0.5 * torch.ones(2) == 0.5).all() and torch.zeros(2).normal_().any()  # as ever


def test_a_model_is_opened_without_torchs_compiler(fresh_process, tmp_path):
    path = digits_checkpoint(tmp_path / "model.pt")
    done = fresh_process.run(f"""
        import sys
        from fastclip import open_model
        open_model({str(path)!r}, device="cpu")
        assert "torch._dynamo" not in sys.modules
    """)
    assert done.returncode == 0, done.stderr
