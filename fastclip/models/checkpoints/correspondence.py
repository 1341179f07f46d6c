"""Rows of the table that maps fastclip's tensors to the same model's tensors in transformers.

A row has names in fastclip, names in transformers, and the conversion between their tensors:

    same         no conversion
    transposed   a matrix that multiplies from the right here is a Linear's weight there
    split        query, key and value: one tensor here, three there
    joined       one tensor of the query and one of key and value here, one tensor there
    leading_one  (1, T, width) here, (T, width) there
    flat_grid    (1, rows, columns, width) here, (rows * columns, width) there
    scalar       () here, (1,) there
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Correspondence(NamedTuple):
    """Tensors of fastclip and of transformers that hold the same numbers, and both conversions."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_theirs: Callable[..., tuple[Tensor, ...]]
    to_ours: Callable[..., tuple[Tensor, ...]]


class BlockNames(NamedTuple):
    """The names that the parts of a block have in fastclip."""

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


def block(ours: str, theirs: str, names: BlockNames) -> Iterator[Correspondence]:
    yield from layer(f"{ours}{names.norm_1}", f"{theirs}layer_norm1")
    yield split(f"{ours}{names.qkv}weight", f"{theirs}self_attn.", "weight")
    yield split(f"{ours}{names.qkv}bias", f"{theirs}self_attn.", "bias")
    yield from layer(f"{ours}{names.out}", f"{theirs}self_attn.out_proj")
    yield from layer(f"{ours}{names.norm_2}", f"{theirs}layer_norm2")
    yield from layer(f"{ours}{names.fc_1}", f"{theirs}mlp.fc1")
    yield from layer(f"{ours}{names.fc_2}", f"{theirs}mlp.fc2")


def layer(ours: str, theirs: str) -> Iterator[Correspondence]:
    yield same(f"{ours}.weight", f"{theirs}.weight")
    yield same(f"{ours}.bias", f"{theirs}.bias")


def same(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x,), lambda x: (x,))


def transposed(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x.T,), lambda x: (x.T,))


def split(ours: str, theirs: str, kind: str) -> Correspondence:
    names = tuple(f"{theirs}{part}_proj.{kind}" for part in "qkv")
    return Correspondence((ours,), names, lambda x: x.chunk(3), lambda *parts: (torch.cat(parts),))


def joined(ours: tuple[str, str], theirs: str) -> Correspondence:
    return Correspondence(
        ours, (theirs,),
        lambda q, kv: (torch.cat([q, kv]),),
        lambda x: x.split((len(x) // 3, 2 * len(x) // 3)),
    )  # fmt: skip


def leading_one(ours: str, theirs: str) -> Correspondence:
    return Correspondence((ours,), (theirs,), lambda x: (x[0],), lambda x: (x[None],))


def flat_grid(ours: str, theirs: str, grid: tuple[int, int]) -> Correspondence:
    return Correspondence(
        (ours,), (theirs,),
        lambda x: (x[0].flatten(0, 1),), lambda x: (x.unflatten(0, grid)[None],),
    )  # fmt: skip


def scalar(name: str) -> Correspondence:
    return Correspondence((name,), (name,), lambda x: (x.reshape(1),), lambda x: (x.reshape(()),))
