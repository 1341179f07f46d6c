"""The examples of the README and of docs/ run on a fresh install: none of the extras, nothing in
any cache. Commands that install, or that need the repository, are counted and not run."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastclip.data.tokenizers.openai_vocabulary import REPOSITORY
from fastclip.data.tokenizers.vocabulary import CLIP_MERGES
from fastclip.models.checkpoints.files import OPENAI_EXTRAS
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.open_clip_config import to_json
from fastclip.models.published import REPOSITORIES
from tests.support.bare import ROOT, make_bare, run_bare
from tests.support.doc_blocks import CODE, read_blocks
from tests.support.doc_pages import DOCS, pages_in_order
from tests.support.merges import two_byte_vocabulary
from tests.support.server import Handler, serve
from tests.support.small_models import build

TEXT = TextConfig(context_length=77, vocab_size=49408, width=64, heads=1, layers=1)
SMALL = ClipConfig(16, VisionConfig(32, patch_size=8, width=64, layers=2), TEXT)
OPENAIS = replace(
    SMALL, vision_cfg=replace(SMALL.vision_cfg, activation="quick_gelu"),
    text_cfg=replace(TEXT, activation="quick_gelu"),
)  # fmt: skip
VOCABULARY = two_byte_vocabulary(CLIP_MERGES)


@pytest.fixture
def published(tmp_path):
    """What a fresh install fetches, in small, and what the examples have to know of it."""
    root = tmp_path / "served"
    openais = root / "openai.pt"
    openais.parent.mkdir()
    torch.save(
        build(OPENAIS).half().state_dict() | dict.fromkeys(OPENAI_EXTRAS, torch.tensor(1)), openais
    )
    digest = hashlib.sha256(openais.read_bytes()).hexdigest()
    (root / "azure" / digest).mkdir(parents=True)
    openais.rename(root / "azure" / digest / "ViT-B-32.pt")
    laion = root / REPOSITORIES["ViT-B-32"]["laion2b_s34b_b79k"] / "resolve"
    laion.mkdir(parents=True)
    (tmp_path / "no tokenizer").mkdir()
    save_pretrained(build(SMALL), laion / "main", tokenizer_directory=tmp_path / "no tokenizer")
    merges = root / REPOSITORY / "resolve" / "main" / "merges.txt"
    merges.parent.mkdir(parents=True)
    merges.write_text(VOCABULARY.to_text(), encoding="utf-8")
    with serve(root) as address:
        settings = {
            "openai": f"{address}/azure",
            "openai_sha256": digest,
            "architecture": to_json(SMALL),
            "vocabulary_sha256": VOCABULARY.sha256,
        }
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        yield address


@pytest.mark.slow
def test_every_example_runs_on_a_fresh_install(published, tmp_path):
    bare = make_bare(tmp_path / "bare")
    script = Path(__file__).parent / "support" / "run_readme.py"
    (tmp_path / "here").mkdir()
    pages = [ROOT / "README.md", *(pages_in_order() if DOCS.exists() else ())]
    result = run_bare(
        bare, str(script), str(tmp_path / "settings.json"), *map(str, pages),
        home=tmp_path / "home", cwd=tmp_path / "here", seconds=900, HF_ENDPOINT=published,
    )  # fmt: skip
    failed = result.stdout.partition("\nfailed ")[2]
    assert result.returncode == 0, failed or result.stdout[-2000:] + result.stderr
    lines = result.stdout.splitlines()
    ran = [line.removeprefix("ran ") for line in lines if line[:4] == "ran "]
    shown = [b.where for page in pages for b in read_blocks(page) if b.output and not b.mark]
    assert [line.removeprefix("compared ") for line in lines if line[:9] == "compared "] == shown
    # All other lines of commands are those that tests/docs/test_pages.py checks by name.
    blocks = [b for p in pages for b in read_blocks(p) if b.language in CODE and not b.mark]
    commands = [
        line
        for block in blocks if block.language != "python"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]  # fmt: skip
    checked = [line for line in commands if line.split()[0] in ("make", "pip", "python")]
    beginning = "checked, not run "
    assert [x.removeprefix(beginning) for x in lines if x.startswith(beginning)] == checked
    assert lines[-1] == f"checked, not run: {len(checked)} commands"
    assert set(commands) - set(checked) <= set(ran)
    assert sum(block.language in CODE for page in pages for block in read_blocks(page)) > 20
    for beginning in (
        "import torch, fastclip", "loss_fn = fastclip.ClipLoss()",
    ):  # fmt: skip
        assert any(line.startswith(beginning) for line in ran), beginning
    if not DOCS.exists():
        return
    for beginning in (
        "loss, stats = fastclip.clip_loss", "import fastclip as c",
        "import fastclip as open_clip", "model = fastclip.TwoTower", "step = fastclip.CachedStep",
        "model = fastclip.create_model", "fastclip convert", "fastclip plan", "fastclip train",
        "torchrun", "fastclip doctor",
        "fastclip classify", "fastclip eval", "fastclip embed", "from fastclip.evaluate import",
    ):  # fmt: skip
        assert any(line.startswith(beginning) for line in ran), beginning
    # A process that finds the vocabulary fetched does not fetch it again.
    assert sum(path.endswith("merges.txt") for path in Handler.requested) == 1
    assert 'run.yaml needs PyYAML: pip install "pyyaml' in result.stderr
    assert "merges.txt, fetched earlier" in result.stdout
