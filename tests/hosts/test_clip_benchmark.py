"""CLIP_benchmark, unpatched: the same metrics and the same classifier with fastclip."""

import io
import json
import tarfile

import pytest
import torch

from tests.support.images import random_image

COLORS = ("red", "green", "blue", "grey")


def write_shards(root, second: str, texts: list[bytes]) -> None:
    (root / "test").mkdir(parents=True)
    (root / "test" / "nshards.txt").write_text("1")
    with tarfile.open(root / "test" / "0.tar", "w") as tar:
        for i, text in enumerate(texts):
            file = io.BytesIO()
            random_image("RGB", 40, 30 + i, seed=i).save(file, "PNG")
            for name, content in ((f"{i:03}.png", file.getvalue()), (f"{i:03}.{second}", text)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def evaluate(run_client, place, package: str, task: str) -> dict:
    run_client(
        package, "clip_benchmark.cli", "eval", "--dataset", "wds/data", "--dataset_root", "data",
        "--task", task, "--model", "tiny", "--pretrained", str(place / "tiny.pt"), "--no_amp",
        "--num_workers", "0", "--batch_size", "5", "--recall_k", "1", "3", "--output",
        f"{package}.json", "--save_clf", str(place / f"{package}.pt"),
    )  # fmt: skip
    return json.loads((place / f"{package}.json").read_text())["metrics"]


def test_zero_shot_classification(place, run_client):
    write_shards(place / "data", "cls", [str(i % 4).encode() for i in range(12)])
    (place / "data" / "classnames.txt").write_text("\n".join(COLORS))
    templates = "a {c} image.\na photo of {c}."
    (place / "data" / "zeroshot_classification_templates.txt").write_text(templates)
    found, expected = (
        evaluate(run_client, place, package, "zeroshot_classification")
        for package in ("fastclip", "open_clip")
    )
    assert found == pytest.approx(expected, nan_ok=True) and 0 <= found["acc1"] <= 1
    classifiers = [torch.load(place / f"{name}.pt") for name in ("fastclip", "open_clip")]
    assert classifiers[0].shape == (16, 4)
    torch.testing.assert_close(*classifiers, rtol=1e-5, atol=1e-6)


def test_zero_shot_retrieval(place, run_client):
    captions = [f"a {COLORS[i % 4]} image {i}\nsomething {COLORS[i % 4]} {i}" for i in range(12)]
    write_shards(place / "data", "txt", [caption.encode() for caption in captions])
    (place / "data" / "dataset_type.txt").write_text("retrieval")
    found, expected = (
        evaluate(run_client, place, package, "zeroshot_retrieval")
        for package in ("fastclip", "open_clip")
    )
    assert found == expected and len(found) == 4
