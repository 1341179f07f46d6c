import pytest
import torch
from torch import nn

from fastclip.train.precision import PRECISIONS, TowerPrecision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "name, parameters, inputs, products, is_scaled",
    [
        ("fp32", "fp32", "float32", "float32", False),
        ("amp", "fp32", "float32", "float16", True),
        ("amp_fp16", "fp32", "float32", "float16", True),
        ("amp_bf16", "fp32", "float32", "bfloat16", False),
        ("amp_bfloat16", "fp32", "float32", "bfloat16", False),
        ("bf16", "bf16", "bfloat16", "bfloat16", False),
        ("fp16", "fp16", "float16", "float16", False),
        ("pure_bf16", "pure_bf16", "bfloat16", "bfloat16", False),
        ("pure_fp16", "pure_fp16", "float16", "float16", False),
    ],
)
def test_names_mean_what_they_mean_in_open_clip(name, parameters, inputs, products, is_scaled):
    precision = TowerPrecision(name, CPU)
    assert precision.parameters == parameters
    assert precision.input_dtype == getattr(torch, inputs)
    layer = nn.Linear(2, 2, dtype=torch.float32 if parameters == "fp32" else precision.input_dtype)
    with precision.autocast():
        assert layer(torch.ones(1, 2, dtype=precision.input_dtype)).dtype == getattr(
            torch, products
        )
    assert (precision.scaler() is not None) == is_scaled
    assert (precision.caution is not None) == (parameters in ("fp16", "pure_fp16"))


def test_every_name_is_tested_and_the_default_is_the_devices():
    assert set(PRECISIONS) == {
        "fp32", "amp", "amp_fp16", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16",
        "pure_fp16",
    }  # fmt: skip
    assert TowerPrecision(None, CPU).name == "fp32"
    assert TowerPrecision(None, torch.device("cuda")).name == "amp_bf16"
