"""Bad input gets an error of the right type that names the argument and the value."""

import warnings

import numpy as np
import pytest
import torch

import fastclip

GOOD = dict(image_features=torch.ones(4, 3), text_features=torch.ones(4, 3), logit_scale=10.0)


def nested(layout):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype")
        return torch.nested.nested_tensor([torch.ones(3)] * 4, layout=layout)


def quantised():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*quantiz", Warning)
        return torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.quint8)


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
        r"image_features must be dense float32, .*, got torch.int64",
    ),
    "complex features": (
        dict(image_features=torch.ones(4, 3, dtype=torch.complex64)),
        ValueError,
        r"image_features must be dense float32, .*, got torch.complex64",
    ),
    "not a tensor": (
        dict(image_features=[[1.0, 2.0, 3.0]] * 4),
        TypeError,
        r"image_features must be a torch.Tensor, got list",
    ),
    "sparse features": (
        dict(image_features=torch.ones(4, 3).to_sparse()),
        ValueError,
        r"image_features must be a dense tensor, got the layout torch.sparse_coo; .to_dense",
    ),
    "features of MKLDNN": (
        dict(text_features=torch.ones(4, 3).to_mkldnn()),
        ValueError,
        r"text_features must be a dense tensor, got the layout torch._mkldnn",
    ),
    "nested features": (
        dict(image_features=lambda: nested(torch.strided)),
        ValueError,
        r"image_features must be a dense tensor, got a nested tensor",
    ),
    "jagged features": (
        dict(text_features=lambda: nested(torch.jagged)),
        ValueError,
        r"text_features must be a dense tensor, got a nested tensor",
    ),
    "quantised features": (
        dict(image_features=lambda: quantised()),
        ValueError,
        r"image_features must be dense float32, .*, got torch.quint8",
    ),
    "sparse scale": (
        dict(logit_scale=torch.tensor(10.0).to_sparse()),
        ValueError,
        r"logit_scale must be a dense tensor",
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
    "scale an array": (
        dict(logit_scale=np.array([10.0, 20.0])),
        ValueError,
        r"logit_scale must have one element, got shape \(2,\)",
    ),
    "scale numpy's nan": (
        dict(logit_scale=np.float32("nan")),
        ValueError,
        r"logit_scale must be finite, got nan",
    ),
    "scale numpy's zero": (
        dict(logit_scale=np.array(0)),
        ValueError,
        r"logit_scale must be > 0 .*, got 0",
    ),
    "scale numpy's bool": (
        dict(logit_scale=np.bool_(True)),
        TypeError,
        r"logit_scale must be a real number, got a numpy bool",
    ),
    "complex numpy scale": (
        dict(logit_scale=np.complex64(10)),
        TypeError,
        r"logit_scale must be a real number, got a numpy complex64",
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
    # What warns when it is made is made here.
    change = {name: x() if callable(x) else x for name, x in change.items()}
    with pytest.raises(error, match=message):
        loss(**(GOOD | change))


@pytest.mark.parametrize("bias, error", [(torch.ones(2), ValueError), (float("nan"), ValueError),
                                         ("1", TypeError), (np.ones(2), ValueError)])  # fmt: skip
def test_bad_logit_bias_raises(bias, error):
    with pytest.raises(error, match="logit_bias"):
        fastclip.siglip_loss(**GOOD, logit_bias=bias)


def test_good_input_passes():
    assert fastclip.clip_loss(**GOOD).isfinite() and fastclip.siglip_loss(**GOOD).isfinite()


def test_tensor_scale_is_not_looked_at():
    """Its value would have to be fetched from the device."""
    assert fastclip.clip_loss(**(GOOD | dict(logit_scale=torch.tensor(float("nan"))))).isnan()


NUMBERS = [np.float32(7), np.float16(7), np.float64(7), np.longdouble(7), np.int64(7), np.uint8(7),
           np.array(7.0), np.array([7], np.int32), np.array([[7.0]], np.float32), 7]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: f"{type(x).__name__} {x!r}")
def test_numbers_of_python_and_numpy_are_scales_and_biases(number):
    image, text = (torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    assert fastclip.clip_loss(image, text, number).equal(fastclip.clip_loss(image, text, 7.0))
    expected = fastclip.siglip_loss(image, text, 7.0, 7.0)
    assert fastclip.siglip_loss(image, text, number, number).equal(expected)
    assert fastclip.SigLipLoss()(image, text, number, number).equal(expected)
    bias = fastclip.ClipLoss()(image, text, number, number)
    assert bias.equal(fastclip.ClipLoss()(image, text, 7.0))


def test_float64_features_get_all_digits_of_a_number():
    image, text = (torch.eye(4, 3, dtype=torch.float64) for _ in range(2))
    third = np.array(1.0) / 3
    expected = fastclip.clip_loss(image, text, torch.tensor(1 / 3, dtype=torch.float64))
    assert fastclip.clip_loss(image, text, third).equal(expected)
