"""open_clip's own trainer, unpatched, on fastclip: the losses that it logs with open_clip."""

import re

import pytest
import torch
from PIL import Image

FIGURE = re.compile(r"([A-Z]\w*[Ll]oss|_R@1|mean_rank|clip_val_loss): ([\d.]+)")


@pytest.fixture
def pairs(place):
    rows = ["filepath\ttitle"]
    (place / "images").mkdir()
    for i in range(24):
        path = place / "images" / f"{i}.png"
        Image.new("RGB", (32 + i, 40), (i * 37 % 256, i * 91 % 256, 77)).save(path)
        rows.append(f"{path}\tan image, number {i}")
    (place / "pairs.csv").write_text("\n".join(rows) + "\n")
    return "pairs.csv"


def train(
    run_client, place, package: str, pairs: str, *flags: str,
    module: str = "open_clip_train.main", name: str | None = None,
) -> list[tuple[str, float]]:  # fmt: skip
    name = name or package
    run_client(
        package, module, "--train-data", pairs, "--dataset-type", "csv",
        "--val-data", pairs, "--model", "tiny", "--batch-size", "8", "--epochs", "2", "--warmup",
        "1", "--lr", "1e-3", "--workers", "0", "--precision", "fp32", "--device", "cpu",
        "--log-every-n-steps", "1", "--aug-cfg", "scale=(1.0, 1.0)", "--logs", "logs", "--name",
        name, *flags,
    )  # fmt: skip
    log = (place / "logs" / name / "out.log").read_text()
    return [(name, float(value)) for name, value in FIGURE.findall(log)]


@pytest.mark.parametrize(
    "flags",
    [
        ["--pretrained", "tiny.pt", "--force-image-size", "40"],
        ["--pretrained", "tiny.pt", "--siglip", "--force-custom-text", "--force-quick-gelu"],
        ["--pretrained", "tiny.pt", "--accum-freq", "3", "--grad-checkpointing"],
        ["--pretrained", "tiny.pt", "--lock-image", "--lock-image-unlocked-groups", "1",
         "--lock-text", "--lock-text-unlocked-layers", "1", "--lock-text-freeze-layer-norm"],
    ],
    ids=["clip", "siglip", "accumulated", "locked"],
)  # fmt: skip
def test_losses_and_metrics_are_open_clips(flags, place, run_client, pairs):
    found, expected = (
        train(run_client, place, package, pairs, *flags) for package in ("fastclip", "open_clip")
    )
    assert len(found) == len(expected) > 5
    for (name, ours), (other, theirs) in zip(found, expected, strict=True):
        assert name == other and ours == pytest.approx(theirs, rel=2e-4, abs=2e-4), name
    ours, theirs = (
        torch.load(place / "logs" / package / "checkpoints" / "epoch_2.pt")["state_dict"]
        for package in ("fastclip", "open_clip")
    )
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
