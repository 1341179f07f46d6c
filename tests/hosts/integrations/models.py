"""Small pairs of towers of transformers in float64, and what hosts make of a step of them."""

import os

import torch
from torch import Tensor, nn

import fastclip
from fastclip.train.step.model_call import call
from tests.train.step.test_model_call import TEXT, TOWER, VISION, make_theirs

T = 9


def make(name: str) -> nn.Module:
    """A CLIPModel, a SiglipModel, or a VisionTextDualEncoderModel, "dual", without dropout."""
    if name != "dual":
        return make_theirs(name)
    import transformers

    text = transformers.BertConfig(
        **TOWER, vocab_size=64, max_position_embeddings=T, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(**VISION)
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=TEXT["projection_dim"]
    )
    torch.manual_seed(0)
    return transformers.VisionTextDualEncoderModel(config).double().train()


class Pairs(torch.utils.data.Dataset):
    """So many pairs, all different, by the names that transformers gives their parts."""

    def __init__(self, num: int) -> None:
        generator = torch.Generator().manual_seed(5)
        size = VISION["image_size"]
        self.images = torch.randn(num, 3, size, size, generator=generator).double()
        self.tokens = torch.randint(3, 64, (num, T), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        tokens = self.tokens[i]
        return {"pixel_values": self.images[i], "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens)}  # fmt: skip

    def batch(self, rows: slice) -> dict[str, Tensor]:
        tokens = self.tokens[rows]
        return {"pixel_values": self.images[rows], "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens)}  # fmt: skip


def loss_of(name: str) -> nn.Module:
    kind = fastclip.SigLipLoss if name == "siglip" else fastclip.ClipLoss
    return kind(world_size=1, backend="reference")


def loss_and_gradients(name: str, model: nn.Module, pairs: Pairs, batches: list[slice]):
    """In one process: the mean loss of whole batches, and its gradient by parameter."""
    model.zero_grad()
    loss = 0.0
    for rows in batches:
        batch = pairs.batch(rows)
        outputs = call(model, {"pixel_values": batch.pop("pixel_values")}, batch)
        loss = loss + loss_of(name)(*outputs.values()) / len(batches)
    loss.backward()
    named = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), named


def as_a_rank(group) -> None:
    """What torchrun tells a process."""
    os.environ.update(
        RANK=str(group.rank()), LOCAL_RANK=str(group.rank()), WORLD_SIZE=str(group.size()),
        LOCAL_WORLD_SIZE=str(group.size()), GROUP_RANK="0", MASTER_ADDR="localhost",
        MASTER_PORT="29500", TORCHELASTIC_RUN_ID="none",
    )  # fmt: skip


def check_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], rtol=1e-8) -> None:
    largest = max(g.abs().max().item() for g in expected.values())
    assert expected.keys() <= found.keys() and largest > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name].to(gradient.dtype), gradient, rtol=rtol, atol=rtol * largest, msg=name
        )
