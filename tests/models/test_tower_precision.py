import pytest
import torch
from torch import nn

from fastclip.models.tower_precision import PRECISIONS, TowerPrecision

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
    assert precision.has_masters == (name in ("bf16", "fp16"))
    assert (precision.caution is not None) == (name in ("fp16", "pure_fp16", "pure_bf16"))


@pytest.mark.parametrize("name", PRECISIONS)
def test_float32_copy_of_a_model_takes_float32_and_makes_the_products_of_the_model(name):
    own, copy = TowerPrecision(name, CPU), TowerPrecision(name, CPU).of_float32()
    assert copy.parameters == "fp32" and copy.input_dtype == torch.float32
    images = torch.ones(1, 2)
    with own.autocast():
        expected = nn.Linear(2, 2, dtype=own.input_dtype)(images.to(own.input_dtype)).dtype
    with copy.autocast():
        assert nn.Linear(2, 2)(images).dtype == expected


@pytest.mark.parametrize(
    "name, said",
    [
        ("fp16", "gradients below 6e-8 are lost"),
        ("pure_fp16", "changes a weight by less than 1/4096 of it is lost"),
        ("pure_bf16", "changes a weight by less than 1/512 of it is lost"),
    ],
)
def test_caution_says_what_stands_still(name, said):
    precision = TowerPrecision(name, CPU)
    assert said in precision.caution and f"--precision {name} " in precision.caution
    if "1/" in said:  # true of every weight, and not of the largest of an exponent by much more
        share = 1 / int(said.split("1/")[1].split()[0])
        for weight in torch.tensor([1.0, 1.5, 2.0 - 4 * share], dtype=precision.input_dtype):
            assert weight + (weight.double() * share).to(weight.dtype) == weight
        assert weight + weight * 1.1 * share != weight


def test_every_name_is_tested_and_the_default_is_the_devices():
    assert set(PRECISIONS) == {
        "fp32", "amp", "amp_fp16", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16",
        "pure_fp16",
    }  # fmt: skip
    assert TowerPrecision(None, CPU).name == "fp32"
    assert TowerPrecision(None, torch.device("cuda")).name == "amp_bf16"
