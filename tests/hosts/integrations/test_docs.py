"""Each block of `docs/integrations.md` as it stands there, run with its host."""

import re
import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import fastclip
from fastclip.integrations.open_clip_train import use_fastclip_loss
from tests.hosts.integrations.models import Pairs, as_a_rank, make
from tests.support.small_models import SMALL, build, inputs

pytestmark = pytest.mark.filterwarnings("default")
PAGE = Path(__file__).parents[3] / "docs" / "integrations.md"
BLOCK = re.compile(r"^## ([^\n]+)$(?:(?!^## ).)*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = dict(BLOCK.findall(PAGE.read_text()))
HOSTS = ["Plain PyTorch", "DistributedDataParallel and FSDP2", "open_clip 4", "transformers",
         "sentence-transformers", "Lightning", "Accelerate"]  # fmt: skip


def run(host: str, **names):
    """Execute the block below a heading; returns what it named."""
    names = {"fastclip": fastclip, "torch": torch, **names}
    exec(compile(BLOCKS[host], f"{PAGE.name}: {host}", "exec"), names)
    return names


def towers():
    return build(SMALL["vit"]).train()


def loader():
    images, tokens = inputs(SMALL["vit"], 6)
    return DataLoader(list(zip(images, tokens, strict=True)), batch_size=3)


def test_page_has_a_block_for_each_host_and_names_files_that_are_there():
    assert list(BLOCKS) == HOSTS
    text = PAGE.read_text()
    assert "-m fastclip.integrations.open_clip_train" in text
    root, room = PAGE.parents[1], None
    for name in re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", text):
        room = name.rpartition("/")[0] or room
        near = [root / room, root / "tests/hosts/integrations", root / "tests/integrations"]
        found = [folder / name.rpartition("/")[2] for folder in near]
        assert any(path.is_file() for path in found), name


def test_plain_pytorch():
    features = [F.normalize(torch.randn(4, 8), dim=1).requires_grad_() for _ in range(2)]
    run(HOSTS[0], image_features=features[0], text_features=features[1], logit_scale=10.0)
    assert all(x.grad is not None for x in features)


def with_ddp(group):
    from torch.nn.parallel import DistributedDataParallel

    from tests.hosts.integrations import test_docs

    model = test_docs.towers()
    images, tokens = inputs(SMALL["vit"], 3, seed=group.rank())
    test_docs.run(
        HOSTS[1], model=model, DistributedDataParallel=DistributedDataParallel, images=images,
        tokens=tokens, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )  # fmt: skip
    return [p.detach() for p in model.parameters()]


def test_ddp(two_ranks):
    first, second = two_ranks.run(2, with_ddp)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_open_clip_4():
    args = Namespace(siglip=False, model="ViT-B-32", rank=0, world_size=1)

    def create_task(args, model):
        return Namespace(loss=type("ClipLoss", (nn.Module,), {})(), model=model)

    found = run(HOSTS[2], create_task=create_task, args=args, model=None,
                use_fastclip_loss=use_fastclip_loss)  # fmt: skip
    assert isinstance(found["task"].loss, fastclip.ClipLoss)


def test_transformers(tmp_path):
    import transformers

    args = transformers.TrainingArguments(
        str(tmp_path), use_cpu=True, max_steps=1, per_device_train_batch_size=6, report_to=[],
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    found = run(HOSTS[3], model=make("clip"), args=args, pairs=Pairs(6))
    assert found["trainer"].state.global_step == 1


def test_sentence_transformers():
    from tests.hosts.integrations.test_sentence_transformers import Encoder, columns

    found = run(HOSTS[4], model=Encoder())
    found["loss"](columns(3), None).backward()
    assert all(p.grad is not None for p in found["model"].parameters())


def test_lightning(tmp_path):
    import lightning.pytorch as lightning

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
    )  # fmt: skip
    run(HOSTS[5], lightning=lightning, make_model=towers, loader=loader(), trainer=trainer)
    assert trainer.global_step == 2


def with_accelerate(group):
    as_a_rank(group)
    warnings.simplefilter("ignore")
    import accelerate

    from tests.hosts.integrations import test_docs

    accelerate.state.AcceleratorState._reset_state(True)
    model = test_docs.towers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    test_docs.run(
        HOSTS[6], model=model, optimizer=optimizer, loader=test_docs.loader(),
        accelerator=accelerate.Accelerator(cpu=True),
    )  # fmt: skip
    return [p.detach() for p in model.parameters()]


def test_accelerate(two_ranks):
    first, second = two_ranks.run(2, with_accelerate)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
