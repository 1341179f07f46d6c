"""Bad input gets an error of the right type that names the argument and the value."""

import pytest
import torch

import fastclip

GOOD = dict(image_features=torch.ones(4, 3), text_features=torch.ones(4, 3), logit_scale=10.0)

BAD = {
    "rank": (
        dict(image_features=torch.ones(4)),
        ValueError,
        r"image_features must have shape \(B, D\), got \(4,\)",
    ),
    "rank 3": (
        dict(text_features=torch.ones(4, 3, 1)),
        ValueError,
        r"text_features must have shape \(B, D\), got \(4, 3, 1\)",
    ),
    "empty batch": (
        dict(image_features=torch.ones(0, 3), text_features=torch.ones(0, 3)),
        ValueError,
        r"image_features must not be empty, got shape \(0, 3\)",
    ),
    "empty other batch": (
        dict(text_features=torch.ones(0, 3)),
        ValueError,
        r"text_features must not be empty, got shape \(0, 3\)",
    ),
    "empty dimension": (
        dict(image_features=torch.ones(4, 0), text_features=torch.ones(4, 0)),
        ValueError,
        r"image_features must not be empty, got shape \(4, 0\)",
    ),
    "D mismatch": (
        dict(text_features=torch.ones(4, 5)),
        ValueError,
        r"same D, got shapes \(4, 3\) and \(4, 5\)",
    ),
    "B mismatch": (
        dict(text_features=torch.ones(5, 3)),
        ValueError,
        r"same B, got shapes \(4, 3\) and \(5, 3\)",
    ),
    "dtype mismatch": (
        dict(text_features=torch.ones(4, 3, dtype=torch.bfloat16)),
        ValueError,
        r"same dtype, got torch.float32 and torch.bfloat16",
    ),
    "devices differ": (
        dict(text_features=torch.ones(4, 3, device="meta")),
        ValueError,
        r"same device, got cpu and meta",
    ),
    "integer features": (
        dict(image_features=torch.ones(4, 3, dtype=torch.int64)),
        ValueError,
        r"image_features must be float32, .*, got torch.int64",
    ),
    "complex features": (
        dict(image_features=torch.ones(4, 3, dtype=torch.complex64)),
        ValueError,
        r"image_features must be float32, .*, got torch.complex64",
    ),
    "not a tensor": (
        dict(image_features=[[1.0, 2.0, 3.0]] * 4),
        TypeError,
        r"image_features must be a torch.Tensor, got list",
    ),
    "scale with two elements": (
        dict(logit_scale=torch.ones(2)),
        ValueError,
        r"logit_scale must have one element, got shape \(2,\)",
    ),
    "scale on another device": (
        dict(logit_scale=torch.ones((), device="meta")),
        ValueError,
        r"logit_scale must be on the features' device cpu, got meta",
    ),
    "complex scale": (
        dict(logit_scale=torch.ones((), dtype=torch.complex64)),
        ValueError,
        r"logit_scale must be real, got torch.complex64",
    ),
    "scale nan": (dict(logit_scale=float("nan")), ValueError, r"logit_scale must be .*, got nan"),
    "scale inf": (
        dict(logit_scale=float("inf")),
        ValueError,
        r"logit_scale must be finite, got inf",
    ),
    "scale zero": (dict(logit_scale=0.0), ValueError, r"logit_scale must be > 0 .*, got 0.0"),
    "scale negative": (dict(logit_scale=-1), ValueError, r"logit_scale must be > 0 .*, got -1"),
    "scale a string": (
        dict(logit_scale="10"),
        TypeError,
        r"logit_scale must be a float or a torch.Tensor, got str",
    ),
    "backend": (
        dict(backend="cuda_fast"),
        ValueError,
        r"backend must be 'auto' or one of .*'cpu'.*, got 'cuda_fast'",
    ),
    "reduction": (
        dict(reduction="sum"),
        ValueError,
        r"reduction must be one of \('mean', 'none'\), got 'sum'",
    ),
    "workspace negative": (
        dict(workspace=-1),
        ValueError,
        r"workspace must be >= 0 bytes, got -1",
    ),
    "workspace a float": (
        dict(workspace=1e9),
        TypeError,
        r"workspace must be a number of bytes \(int\) or None, got float",
    ),
}


@pytest.mark.parametrize("loss", [fastclip.clip_loss, fastclip.siglip_loss])
@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_bad_input_raises(loss, change, error, message):
    with pytest.raises(error, match=message):
        loss(**(GOOD | change))


@pytest.mark.parametrize("bias, error", [(torch.ones(2), ValueError), (float("nan"), ValueError),
                                         ("1", TypeError)])  # fmt: skip
def test_bad_logit_bias_raises(bias, error):
    with pytest.raises(error, match="logit_bias"):
        fastclip.siglip_loss(**GOOD, logit_bias=bias)


def test_good_input_passes():
    assert fastclip.clip_loss(**GOOD).isfinite() and fastclip.siglip_loss(**GOOD).isfinite()


def test_tensor_scale_is_not_looked_at():
    """Its value would have to be fetched from the device."""
    assert fastclip.clip_loss(**(GOOD | dict(logit_scale=torch.tensor(float("nan"))))).isnan()
