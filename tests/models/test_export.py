"""Towers that are exported with a batch of two serve batches of every size.

torch.export, torch.jit.trace and ONNX record a program from one example: a length that is read as a
Python number is that of the example for ever.
"""

import pytest
import torch
from torch import nn

from fastclip.models.openai import LogitsCLIP
from fastclip.models.two_tower import EncoderTower
from tests.support.small_models import SMALL, build, inputs, with_layers

IMAGE_TOWERS = [
    (kind, "image") for kind in ("vit", "clipa", "resnet", "siglip", "naflex", "sequence_first")
]
TOWERS = IMAGE_TOWERS + [(kind, "text") for kind in ("vit", "eos", "siglip", "sequence_first")]
BATCH = torch.export.Dim("batch", min=1, max=64)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Encode(nn.Module):
    """One tower of a model, with the method that users call."""

    def __init__(self, kind, tower):
        super().__init__()
        self.config = with_layers(SMALL.get(kind, SMALL["vit"]), 1)
        self.model = build(self.config)
        if kind == "sequence_first":
            weights = self.model.state_dict()
            self.model = LogitsCLIP(self.config)
            self.model.load_state_dict(weights)
        self.tower = tower
        self.eval()

    def forward(self, batch):
        return (
            self.model.encode_image(batch)
            if self.tower == "image"
            else self.model.encode_text(batch)
        )

    def batch(self, size, seed=1):
        return inputs(self.config, size, seed)[0 if self.tower == "image" else 1]


def assert_serves(exported, encode, batches):
    with torch.no_grad():
        for batch in batches:
            torch.testing.assert_close(exported(batch), encode(batch), rtol=1e-4, atol=1e-5)


def other_batches(encode):
    return [encode.batch(size, seed=size) for size in (1, 2, 7)]


# Texts of every length, below, are any number of texts too.
@pytest.mark.parametrize(
    "kind, tower",
    [("vit", "image"), ("resnet", "image"), ("siglip", "image"), ("sequence_first", "image"),
     ("eos", "text")],
)  # fmt: skip
def test_export_serves_any_number_of_samples(kind, tower):
    encode = Encode(kind, tower)
    exported = torch.export.export(encode, (encode.batch(2),), dynamic_shapes=({0: BATCH},))
    assert_serves(exported.module(), encode, other_batches(encode))


def test_strict_export_serves_any_number_of_samples():
    torch._dynamo.reset()
    encode = Encode("vit", "image")
    exported = torch.export.export(
        encode, (encode.batch(2),), dynamic_shapes=({0: BATCH},), strict=True
    )
    assert_serves(exported.module(), encode, other_batches(encode))


@pytest.mark.parametrize("kind, length", [("vit", 7), ("siglip", 9), ("sequence_first", 7)])
def test_export_serves_texts_of_any_length(kind, length):
    encode = Encode(kind, "text")
    shapes = ({0: BATCH, 1: torch.export.Dim("length", min=2, max=9)},)
    exported = torch.export.export(
        encode, (encode.batch(2)[:, :length].contiguous(),), dynamic_shapes=shapes
    )
    batches = [batch[:, :T] for batch in other_batches(encode) for T in (9, 4)]
    assert_serves(exported.module(), encode, batches)


@pytest.mark.parametrize("kind, tower", TOWERS)
def test_trace_serves_any_number_of_samples(kind, tower):
    encode = Encode(kind, tower)
    with torch.no_grad():
        traced = torch.jit.trace(encode, (encode.batch(2),))
    assert_serves(traced, encode, other_batches(encode))


@pytest.mark.parametrize("kind, tower", TOWERS)
def test_onnx_serves_any_number_of_samples_and_texts_of_any_length(kind, tower, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    encode = Encode(kind, tower)
    dynamic = {0: "batch"} if tower == "image" else {0: "batch", 1: "length"}
    path = str(tmp_path / "tower.onnx")
    torch.onnx.export(
        encode, (encode.batch(2),), path, input_names=["batch"], output_names=["features"],
        dynamo=False, dynamic_axes={"batch": dynamic, "features": {0: "batch"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    batches = other_batches(encode)
    if tower == "text":
        batches += [batch[:, :4] for batch in batches]
    assert_serves(
        lambda x: torch.as_tensor(session.run(None, {"batch": x.numpy()})[0]), encode, batches
    )


class Patches(nn.Module):
    num_features = 6

    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(3, 6)

    def forward(self, pixels):
        return self.embedding(pixels)


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_an_encoder_of_ones_own_is_exported_and_traced(pool):
    torch.manual_seed(0)
    tower = EncoderTower(Patches(), 4, pool=pool).eval()
    example, batches = torch.randn(2, 5, 3), [torch.randn(size, 5, 3) for size in (1, 3)]
    exported = torch.export.export(tower, (example,), dynamic_shapes=({0: BATCH},))
    for recorded in (exported.module(), torch.jit.trace(tower, (example,))):
        assert_serves(recorded, tower, batches)
