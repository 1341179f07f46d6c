"""The tensors of transformers' CLIPModel and SiglipModel, and ours, each from the other.

One table serves both directions. A row has names of ours, names of theirs, and what is between:

    same         nothing
    transposed   a matrix that multiplies from the right here is a Linear's weight there
    split        query, key and value: one tensor here, three there
    joined       query, and key with value: two tensors here, one there
    leading 1    (1, T, width) here, (T, width) there
    scalar       () here, (1,) there

Source: the state dicts of transformers 5.23 and open_clip_torch 3.3.0; strict loading in the tests
verifies every row.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.config import ClipConfig, SiglipVisionConfig, VisionConfig


class Correspondence(NamedTuple):
    """Tensors of ours and of theirs that hold the same numbers, and the ways between."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_theirs: Callable[..., tuple[Tensor, ...]]
    to_ours: Callable[..., tuple[Tensor, ...]]


class BlockNames(NamedTuple):
    """What a block's parts are called here."""

    norm_1: str
    qkv: str  # before "weight" and "bias"
    out: str
    norm_2: str
    fc_1: str
    fc_2: str


OPENAI_BLOCK = BlockNames(
    "ln_1", "attn.in_proj_", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"
)
TIMM_BLOCK = BlockNames("norm1", "attn.qkv.", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def to_transformers(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Rename and reshape our tensors to theirs.

    Raises:
        CheckpointError: transformers has no such model; the message says what it lacks.
        KeyMismatchError: `tensors` are not those of `config`.
    """
    return _rewrite(tensors, [(row.ours, row.theirs, row.to_theirs) for row in _table(config)])


def from_transformers(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Rename and reshape their tensors to ours.

    Raises:
        CheckpointError: transformers has no such model.
        KeyMismatchError: `tensors` are not those of `config`.
    """
    return _rewrite(tensors, [(row.theirs, row.ours, row.to_ours) for row in _table(config)])


def _rewrite(tensors: dict[str, Tensor], steps: list[tuple]) -> dict[str, Tensor]:
    """Apply (names before, names after, way between) to each of the tensors before."""
    wanted = {name for before, _, _ in steps for name in before}
    missing, unexpected = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
    if missing or unexpected:
        raise KeyMismatchError(missing, unexpected, [])
    return {
        name: part.contiguous()
        for before, after, way in steps
        for name, part in _parts(tensors, before, after, way)
    }


def _parts(
    tensors: dict[str, Tensor], before: tuple[str, ...], after: tuple[str, ...], way: Callable
) -> list[tuple[str, Tensor]]:
    try:
        return list(zip(after, way(*(tensors[name] for name in before)), strict=True))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        shapes = ", ".join(f"{name} of {tuple(tensors[name].shape)}" for name in before)
        raise CheckpointError(f"{shapes}: no tensors of a model have these shapes") from error


def _table(config: ClipConfig) -> Iterator[Correspondence]:
    if lacking := _what_transformers_lacks(config):
        raise CheckpointError(f"transformers has no such model: {'; '.join(lacking)}")
    return _siglip(config) if isinstance(config.vision_cfg, SiglipVisionConfig) else _clip(config)


def _what_transformers_lacks(config: ClipConfig) -> list[str]:
    vision, text = config.vision_cfg, config.text_cfg
    if isinstance(vision, SiglipVisionConfig):
        is_siglip_text = text.no_causal_mask and text.pool_type == "last" and text.proj_bias
        fits = config.custom_text and is_siglip_text and config.init_logit_bias is not None
        return [] if fits else ["its SiglipModel has one kind of text tower, which this is not"]
    if not isinstance(vision, VisionConfig):
        return ["its CLIPModel has no ResNet"]
    objections = {
        "a vision tower without ln_pre": vision.no_ln_pre,
        "averaged patches": vision.pool_type != "tok",
        "grey images": vision.channels != 3,
        "LayerScale": vision.ls_init_value is not None or text.ls_init_value is not None,
        "a text tower without causal mask": text.no_causal_mask,
        f"text pooling by {text.pool_type}": text.pool_type not in ("argmax", "eos"),
        "a text tower without projection": text.proj_type != "linear",
        "a text projection with bias": text.proj_bias,
        "a logit_bias": config.init_logit_bias is not None,
    }
    return [f"its CLIPModel has no place for {what}" for what, holds in objections.items() if holds]


def _clip(config: ClipConfig) -> Iterator[Correspondence]:
    text = "text." if config.custom_text else ""
    vision = "vision_model."
    # One number, of shape () or (1,) here.
    yield Correspondence(
        ("logit_scale",), ("logit_scale",), lambda x: (x.reshape(()),), lambda x: (x,)
    )
    yield from _text_tower(config, text)
    yield _transposed(f"{text}text_projection", "text_projection.weight")
    yield _same("visual.class_embedding", f"{vision}embeddings.class_embedding")
    yield _same("visual.conv1.weight", f"{vision}embeddings.patch_embedding.weight")
    yield _same("visual.positional_embedding", f"{vision}embeddings.position_embedding.weight")
    yield from _layer("visual.ln_pre", f"{vision}pre_layrnorm")  # theirs is spelt so
    yield from _layer("visual.ln_post", f"{vision}post_layernorm")
    yield _transposed("visual.proj", "visual_projection.weight")
    for i in range(config.vision_cfg.layers):
        ours, theirs = f"visual.transformer.resblocks.{i}.", f"{vision}encoder.layers.{i}."
        yield from _block(ours, theirs, OPENAI_BLOCK)


def _siglip(config: ClipConfig) -> Iterator[Correspondence]:
    trunk, vision = "visual.trunk.", "vision_model."
    yield _scalar("logit_scale")
    yield _scalar("logit_bias")
    yield from _text_tower(config, "text.")
    yield from _layer("text.text_projection", "text_model.head")
    yield from _layer(f"{trunk}patch_embed.proj", f"{vision}embeddings.patch_embedding")
    yield _leading_one(f"{trunk}pos_embed", f"{vision}embeddings.position_embedding.weight")
    for i in range(config.vision_cfg.layers):
        ours, theirs = f"{trunk}blocks.{i}.", f"{vision}encoder.layers.{i}."
        yield from _block(ours, theirs, TIMM_BLOCK)
    yield from _layer(f"{trunk}norm", f"{vision}post_layernorm")
    pool, head = f"{trunk}attn_pool.", f"{vision}head."
    yield _same(f"{pool}latent", f"{head}probe")
    yield _joined((f"{pool}q.weight", f"{pool}kv.weight"), f"{head}attention.in_proj_weight")
    yield _joined((f"{pool}q.bias", f"{pool}kv.bias"), f"{head}attention.in_proj_bias")
    yield from _layer(f"{pool}proj", f"{head}attention.out_proj")
    yield from _layer(f"{pool}norm", f"{head}layernorm")
    yield from _layer(f"{pool}mlp.fc1", f"{head}mlp.fc1")
    yield from _layer(f"{pool}mlp.fc2", f"{head}mlp.fc2")


def _text_tower(config: ClipConfig, ours: str) -> Iterator[Correspondence]:
    tower = "text_model."
    yield _same(f"{ours}token_embedding.weight", f"{tower}embeddings.token_embedding.weight")
    yield _same(f"{ours}positional_embedding", f"{tower}embeddings.position_embedding.weight")
    yield from _layer(f"{ours}ln_final", f"{tower}final_layer_norm")
    for i in range(config.text_cfg.layers):
        block, theirs = f"{ours}transformer.resblocks.{i}.", f"{tower}encoder.layers.{i}."
        yield from _block(block, theirs, OPENAI_BLOCK)


def _block(ours: str, theirs: str, names: BlockNames) -> Iterator[Correspondence]:
    yield from _layer(f"{ours}{names.norm_1}", f"{theirs}layer_norm1")
    yield _split(f"{ours}{names.qkv}weight", f"{theirs}self_attn.", "weight")
    yield _split(f"{ours}{names.qkv}bias", f"{theirs}self_attn.", "bias")
    yield from _layer(f"{ours}{names.out}", f"{theirs}self_attn.out_proj")
    yield from _layer(f"{ours}{names.norm_2}", f"{theirs}layer_norm2")
    yield from _layer(f"{ours}{names.fc_1}", f"{theirs}mlp.fc1")
    yield from _layer(f"{ours}{names.fc_2}", f"{theirs}mlp.fc2")


def _layer(ours: str, theirs: str) -> Iterator[Correspondence]:
    yield _same(f"{ours}.weight", f"{theirs}.weight")
    yield _same(f"{ours}.bias", f"{theirs}.bias")


def _same(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x,), lambda x: (x,))


def _transposed(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x.T,), lambda x: (x.T,))


def _split(ours: str, theirs: str, kind: str) -> Correspondence:
    names = tuple(f"{theirs}{part}_proj.{kind}" for part in "qkv")
    return Correspondence((ours,), names, lambda x: x.chunk(3), lambda *parts: (torch.cat(parts),))


def _joined(ours: tuple[str, str], theirs: str) -> Correspondence:
    return Correspondence(
        ours, (theirs,),
        lambda q, kv: (torch.cat([q, kv]),),
        lambda x: x.split((len(x) // 3, 2 * len(x) // 3)),
    )  # fmt: skip


def _leading_one(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x[0],), lambda x: (x[None],))


def _scalar(name: str) -> Correspondence:
    return Correspondence((name,), (name,), lambda x: (x.reshape(1),), lambda x: (x.reshape(()),))
