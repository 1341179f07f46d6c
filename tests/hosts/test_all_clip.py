"""all_clip, unpatched, with its own defaults: a traced model, and OpenAI's names."""

import warnings

import torch

from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from tests.support.small_models import SMALL, build, inputs

PROGRAM = """
import sys
import torch
import all_clip
from PIL import Image

model, preprocess, tokenizer = all_clip.load_clip(sys.argv[1], device="cpu")
image = preprocess(Image.linear_gradient("L").convert("RGB"))[None]
with torch.no_grad():
    features = model.encode_image(image.repeat(3, 1, 1, 1)), model.encode_text(tokenizer(["a dog"]))
inner = getattr(model, "inner_model", model)
torch.save({"features": features, "kind": type(inner).__mro__[1].__name__}, sys.argv[2])
"""


def load(run_client, place, package: str, name: str) -> dict:
    (place / "program.py").write_text(PROGRAM)
    run_client(package, "program", name, str(place / "out.pt"))
    return torch.load(place / "out.pt")


def test_models_of_open_clip_are_traced_and_compute_the_same(place, run_client, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(place))
    found = load(run_client, place, "fastclip", f"open_clip:tiny/{place / 'tiny.pt'}")
    assert found["kind"] == "TracedModule"
    (place / "direct.py").write_text(
        PROGRAM.replace("import all_clip", "import open_clip").replace(
            'all_clip.load_clip(sys.argv[1], device="cpu")',
            "(*open_clip.create_model_from_pretrained('tiny', 'tiny.pt'), "
            "open_clip.get_tokenizer('tiny'))",
        )
    )
    run_client("open_clip", "direct", "-", str(place / "out.pt"))
    expected = torch.load(place / "out.pt")
    for ours, theirs in zip(found["features"], expected["features"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert found["features"][0].shape == (3, 16)


def test_openais_archives_load_under_openais_names(place, run_client, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(place))
    config = SMALL["quick_gelu"]
    model = build(config)
    for name, value in zip(OPENAI_EXTRAS, (32, 9, 64), strict=True):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, inputs(config), check_trace=False).save(str(place / "archive.pt"))
    (place / "program.py").write_text(
        "import sys, torch\n"
        "import all_clip.openai_clip\n"
        "model, preprocess, _ = all_clip.openai_clip.load_openai_clip("
        "'archive.pt', True, 'cpu', None)\n"
        "image = torch.load('image.pt')\n"
        "with torch.no_grad():\n"
        "    torch.save((model.encode_image(image), preprocess.transforms[0].size), sys.argv[1])\n"
    )
    image, _ = inputs(config)
    torch.save(image, place / "image.pt")
    run_client("fastclip", "program", "out.pt")
    features, size = torch.load(place / "out.pt")
    assert size == 32
    assert torch.equal(features, build(config).encode_image(image))
