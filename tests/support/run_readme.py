"""Runs the examples of pages where nothing but fastclip's declared packages can be imported.

    python -S run_readme.py SETTINGS.json README.md docs/getting-started.md ...

SETTINGS.json says what stands in for published files: small ones on a server on this machine. The
pages are run one after the other, as somebody reads them, in one directory: what one has trained,
another uses. Names of Python are those of a page. Every example that is run prints a line that
begins with "ran", one that is not run begins with "not run" and has its reason, and one that fails
begins with "failed"; the next page is run all the same. A command that installs, or that needs the
repository, prints a line that begins with "checked, not run": `tests/docs/test_pages.py` checks
that what it names is there. The last line counts these.
"""

import contextlib
import importlib.util
import io
import json
import shlex
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import torch
from doc_blocks import Block, read_blocks
from PIL import Image

import fastclip
from fastclip.cli import main
from fastclip.commands import train as train_command
from fastclip.data.tokenizers import beside_weights, openai_vocabulary
from fastclip.models import fetch, published, registry
from fastclip.models.open_clip_config import from_json

CHECKED = ("make", "pip", "python")  # what a page may call beside fastclip and torchrun
EXTRAS = ("open_clip", "clip", "transformers", "huggingface_hub", "timm", "tqdm", "yaml", "sklearn")


def stand_in(settings: dict) -> None:
    fetch.OPENAI = settings["openai"]
    published.OPENAI_FILES["ViT-B/32"] = (settings["openai_sha256"], "ViT-B-32.pt")
    registry.architectures["ViT-B-32"] = from_json(settings["architecture"])
    openai_vocabulary.SHA256 = beside_weights.SHA256 = settings["vocabulary_sha256"]


class Tower(torch.nn.Module):
    """A user's own encoder; `num_features` is its width, as timm's models have it."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(16))

    def forward(self, images=None, input_ids=None, attention_mask=None):
        rows = (images if input_ids is None else input_ids).flatten(1).float().mean(1)
        return rows[:, None] * self.weight


def names_of_a_user() -> dict:
    """What the examples take for given."""
    features = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=-1)
    image = Image.new("RGB", (64, 48), "red")
    ids = torch.randint(1, 100, (4, 5))
    return {
        "fastclip": fastclip, "device": "cpu", "image": image, "images": torch.randn(4, 3, 32, 32),
        "image_features": features[0], "text_features": features[1],
        "logit_scale": torch.tensor(10.0), "logit_bias": torch.tensor(-10.0),
        "captions": ["a dog", "a cat", "an ox", "a fox"],
        "timm": SimpleNamespace(create_model=lambda name, num_classes: Tower()),
        "bert": Tower(), "ids": ids, "mask": torch.ones_like(ids),
        "caption_ids": torch.arange(8) % 5,
    }  # fmt: skip


def run_python(block: Block, names: dict) -> None:
    if "CachedStep(" in block.text and "model" not in names:
        model = fastclip.create_model("ViT-B-32")
        tokens = fastclip.get_tokenizer("ViT-B-32")(names["captions"])
        optimizer = torch.optim.AdamW(model.parameters())
        names |= {"model": model, "tokens": tokens, "optimizer": optimizer}
        names["images"] = torch.randn(4, 3, 32, 32)
    exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)
    if "standardize" in block.text:
        _, _, preprocess = fastclip.create_model_and_transforms("ViT-B-32")
        assert torch.equal(names["images"][0], preprocess(names["image"]))


def run_command(line: str) -> bool:
    """Run a command of fastclip; whether it was run, and not only named."""
    name, *arguments = shlex.split(line, comments=True)
    if name in CHECKED:
        print("checked, not run", line, file=sys.__stdout__)
        return False
    if name == "torchrun":
        name, *arguments = arguments[arguments.index("-m") + 1 :]
    assert name == "fastclip", f"{line}: nothing here runs {name}"
    run_fastclip(line, arguments)
    return True


def run_fastclip(line: str, arguments: list[str]) -> None:
    if arguments[0] == "train":
        return run_training(line, arguments)
    if arguments[0] == "convert":
        model = fastclip.create_model("ViT-B-32")
        torch.save({"state_dict": model.state_dict()}, arguments[1])
    if arguments[0] in ("classify", "eval", "embed"):
        make_photos()
        arguments += ["--device", "cpu"]
    if arguments[0] == "eval":
        arguments += ["--workers", "0"]
    # What needs an extra, which a bare install does not have, names it.
    assert main(arguments) == (2 if arguments[0] in ("serve", "export") else 0), line
    print("ran", line, file=sys.__stdout__)


def make_photos() -> None:
    for name in ("cat", "dog"):
        (Path("photos") / name).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new("RGB", (40, 40), (30 * i, 90, 0)).save(f"photos/{name}/{i}.png")


def run_training(line: str, arguments: list[str]) -> None:
    if "run.yaml" in arguments:
        # What is missing is named; the settings are then in JSON.
        Path("run.yaml").write_text("model: ViT-B-32\n")
        assert main(arguments) == 2
        Path("run.json").write_text('{"model": "ViT-B-32", "train_data": "pairs.csv"}')
        arguments = [a.replace("run.yaml", "run.json") for a in arguments]
    for i in range(8):
        Image.new("RGB", (40, 40), (30 * i, 0, 0)).save(f"{i}.png")
    rows = "".join(f"{i}.png\tan ox\n" for i in range(8))
    Path("pairs.csv").write_text(f"filepath\ttitle\n{rows}")
    sizes = (
        "--train-data pairs.csv --dataset-type csv --global-batch-size 4 --micro-batch-size 2 "
        "--epochs 1 --workers 0 --warmup 1 --device cpu"
    )
    assert main([*arguments, *sizes.split()]) == 0, line
    print("ran", line, file=sys.__stdout__)


def run_page(path: Path) -> tuple[bool, int]:
    """Whether all that can be run was; the number of commands that were checked and not run."""
    names, succeeded, num_checked = names_of_a_user(), True, 0
    for block in read_blocks(path):
        if block.mark is not None:
            print(f"{block.mark[0]} {block.where} {block.mark[1]}")
        elif block.language in ("python", "", "bash"):
            try:
                num_checked += run_block(block, names)
            except (Exception, SystemExit):
                succeeded = False
                print(f"failed {block.where}\n{traceback.format_exc()}", flush=True)
    return succeeded, num_checked


def run_block(block: Block, names: dict) -> int:
    """Run a block of code, and compare what it prints if the page shows it.

    Returns:
        the number of its commands that were not run.
    """
    printed, num_checked = io.StringIO(), 0
    with contextlib.redirect_stdout(printed if block.output is not None else sys.stdout):
        if block.language == "python":
            run_python(block, names)
        else:
            for line in block.text.replace("\\\n", " ").splitlines():
                num_checked += not run_command(line)
    if block.language == "python":
        print("ran", block.text.splitlines()[0])
    if block.output is not None:
        expected, got = block.output.rstrip(), printed.getvalue().rstrip()
        assert got == expected, f"{block.where} prints\n{got}\nand not\n{expected}"
        print("compared", block.where)
    return num_checked


if __name__ == "__main__":
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"this environment is not bare: {present}"
    assert train_command.__file__.startswith(str(Path(fastclip.__file__).parent))
    stand_in(json.loads(Path(sys.argv[1]).read_text()))
    succeeded, num_checked = zip(*(run_page(Path(page)) for page in sys.argv[2:]), strict=True)
    print(f"checked, not run: {sum(num_checked)} commands")
    sys.exit(not all(succeeded))
