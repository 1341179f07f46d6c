import pytest
import torch

from fastclip.models.precision import set_precision
from tests.support.small_models import SMALL, build, inputs


@pytest.mark.parametrize("kind", ["vit", "siglip"])
@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_matrices_are_converted_and_gains_are_not(kind, precision, dtype):
    model = set_precision(build(SMALL[kind]), precision)
    by_name = {n: p.dtype for n, p in model.named_parameters()}
    for name, found in by_name.items():
        last = name.split(".")[-2:]
        gains = any("ln" in part or "norm" in part for part in name.split("."))
        table = any("emb" in part or "latent" in part for part in last) or "logit" in name
        is_float32 = (gains or table) and "patch_embed" not in name
        assert found == (torch.float32 if is_float32 else dtype), name


@pytest.mark.parametrize("precision", ["bf16", "pure_bf16"])
@pytest.mark.parametrize("kind", ["vit", "siglip", "resnet"])
def test_features_in_bfloat16_are_near_those_in_float32(kind, precision):
    model = build(SMALL[kind])
    images, tokens = inputs(SMALL[kind])
    exact = model(images, tokens)
    rounded = set_precision(model, precision)(images, tokens)
    for one, other in zip(exact[:2], rounded[:2], strict=True):
        assert other.dtype == torch.bfloat16
        assert 0 < (one - other.float()).abs().max() < 0.03


def test_float32_precisions_leave_float32():
    model = set_precision(build(SMALL["vit"]).bfloat16(), "amp_bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_unknown_precision_names_the_choices():
    with pytest.raises(ValueError, match=r"pure_bf16.*'int8'"):
        set_precision(build(SMALL["vit"]), "int8")
