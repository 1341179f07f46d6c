"""FSDP2's shares of a text tower of transformers, whose blocks may be lists of parts."""

import pytest
import torch
import torch.distributed as dist

from fastclip.models.build import build_model
from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.train.weights.sharding import is_sharded, is_share, shard
from tests.support.hugging_face_towers import hf_text, texts

VISION = VisionConfig(16, 8, width=32, layers=1, head_width=16)


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients_of(model, tokens, target):
    model.zero_grad()
    (model(None, tokens)[1] * target).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {n: g.full_tensor() if is_share(g) else g.clone() for n, g in gradients.items()}


# mT5's blocks return a view, which transformers does not write into.
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view")
@pytest.mark.parametrize("kind", ["roberta", "mt5"])
def test_each_block_is_sharded_once_and_gradients_stay(kind, one_rank, tmp_path):
    text = hf_text(kind, tmp_path)
    model = build_model(ClipConfig(24, VISION, text, custom_text=True)).eval()
    target = torch.randn(4, 24)
    expected = gradients_of(model, texts(text), target)
    shard(model, torch.device("cpu"))
    sharded = [name for name, module in model.text.named_modules() if is_sharded(module)]
    blocks = text.family.blocks
    assert sharded == [f"transformer.{blocks}.0", f"transformer.{blocks}.1"]
    found = gradients_of(model, texts(text), target)
    assert found.keys() == expected.keys() and len(found) > 20
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])
