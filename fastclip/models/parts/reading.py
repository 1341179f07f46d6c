"""How towers read their transformers: one token where nobody looks, all of them otherwise.

A last block that computes one token per sequence is invisible in the tower's features. It is not to
those who look inside: hooks on the block, on what is in it or on what follows would see one token
instead of all, and a block that was replaced or patched knows nothing of it. Where any of this is
the case, the whole block is computed, with the same features.

Hooks of PyTorch's own machinery (FSDP2, the FLOP counter) do not look at tokens.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules import module as global_hooks

from fastclip.models.parts.activations import QuickGELU
from fastclip.models.parts.attention import Attention
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices
from fastclip.models.parts.masks import ReadAt, causal_mask
from fastclip.models.parts.transformer import (
    BLOCK_ATTENTION,
    BLOCK_FORWARD,
    LayerScale,
    Transformer,
    runs,
)

TRANSFORMER_FORWARD = Transformer.forward
OWN_INTERMEDIATES = Transformer.forward_intermediates
# What computes every token by itself, or is given the position that is read.
KNOWN_FORWARDS = frozenset(
    cls.forward
    for cls in (
        Attention, LayerNorm, LayerScale, QuickGELU, Transformer, nn.Dropout, nn.GELU, nn.Identity,
        nn.LayerNorm, nn.Linear, nn.Sequential,
    )
) | {BLOCK_FORWARD}  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
MACHINERY = ("torch.distributed.fsdp.", "torch.utils.module_tracker")


def read(
    transformer: nn.Module,
    x: Tensor,
    attn_mask: Tensor | None = None,
    read_at: ReadAt = None,
    is_causal: bool = False,
) -> Tensor:
    """Return the (B, T, width) tokens that a tower's transformer makes of (B, T, width) tokens.

    Args:
        transformer: a `Transformer` of either layout, or what took its place: that is called with
            `attn_mask` alone, as in open_clip.
        attn_mask: (T, T), or None.
        read_at: only the (B, width) tokens at these positions; see `is_observed`.
        is_causal: no token sees those behind it. Where nobody could see or change it, the mask is
            not made: kernels that know it are faster than those that read it.
    """
    if is_causal and not _hides_the_mask(transformer):
        attn_mask, is_causal = causal_mask(x.shape[1], x), False
    if not runs(transformer, TRANSFORMER_FORWARD):
        return transformer(x) if attn_mask is None else transformer(x, attn_mask=attn_mask)
    batch_first = transformer.batch_first
    x = x if batch_first else x.transpose(0, 1)
    x = transformer(
        x, attn_mask=attn_mask, read_at=read_at, batch_first=batch_first, is_causal=is_causal
    )
    return x if batch_first or read_at is not None else x.transpose(0, 1)


def read_layers(
    transformer: nn.Module,
    x: Tensor,
    attn_mask: Tensor | None = None,
    indices: Indices = None,
    stop_early: bool = False,
    is_causal: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """Return (B, T, width) tokens behind the last block, and behind each of those at `indices`.

    Args:
        transformer: see `read`; what took its place needs open_clip's `forward_intermediates`.
        attn_mask, is_causal: see `read`.
        indices, stop_early: see `run_layers`.

    Raises:
        TypeError: it has none, or its `forward` was given another and its blocks may mean another
            thing.
    """
    method = getattr(transformer, "forward_intermediates", None)
    is_ours = getattr(type(transformer), "forward_intermediates", None) is OWN_INTERMEDIATES
    if method is None or (is_ours and not runs(transformer, TRANSFORMER_FORWARD)):
        raise TypeError(
            f"forward_intermediates: the tower's transformer has another forward, that of "
            f"{type(transformer).__name__}, and does not tell what its layers return"
        )
    if is_causal and not _hides_the_mask(transformer):
        attn_mask, is_causal = causal_mask(x.shape[1], x), False
    if not is_ours:
        masks = {} if attn_mask is None else {"attn_mask": attn_mask}
        return method(x, indices=indices, stop_early=stop_early, **masks)
    return method(x, attn_mask, indices, stop_early, batch_first=True, is_causal=is_causal)


def is_observed(x: Tensor, transformer: nn.Module, norm: nn.Module) -> bool:
    """Whether anybody could see that `transformer`'s last block computes one token alone.

    Args:
        x: the tokens that go into it; a proxy of torch.fx is looked at node by node.
        norm: the module that follows it in the tower.
    """
    if isinstance(x, Proxy):
        return True
    if not runs(transformer, TRANSFORMER_FORWARD) or len(transformer.resblocks) == 0:
        return True
    last = transformer.resblocks[-1]
    if not runs(last, BLOCK_FORWARD) or "attention" in last.__dict__:
        return True
    if any(_look(getattr(global_hooks, f"_global{kind}")) for kind in HOOKS):
        return True
    return any(_is_observed(module) for module in (transformer, *last.modules(), *norm.modules()))


def _hides_the_mask(transformer: nn.Module) -> bool:
    """Whether a mask goes to our own blocks and their attention alone, past nobody's eyes."""
    return (
        runs(transformer, TRANSFORMER_FORWARD)
        and not _is_given_arguments(transformer)
        and all(map(_hides_its_mask, transformer.resblocks))
    )


def _hides_its_mask(block: nn.Module) -> bool:
    return (
        runs(block, BLOCK_FORWARD)
        and type(block).attention is BLOCK_ATTENTION
        and "attention" not in block.__dict__
        and block.attn_mask is None
        and runs(block.attn, Attention.forward)
        and not _is_given_arguments(block)
        and not _is_given_arguments(block.attn)
    )


def _is_given_arguments(module: nn.Module) -> bool:
    """Whether a hook of `module` is given the arguments that have names, as masks have."""
    with_names = (*module._forward_pre_hooks_with_kwargs, *module._forward_hooks_with_kwargs)
    hooks = {**module._forward_pre_hooks, **module._forward_hooks}
    return _look({name: hooks[name] for name in with_names})


def _is_observed(module: nn.Module) -> bool:
    if type(module).forward not in KNOWN_FORWARDS or "forward" in module.__dict__:
        return True
    return any(_look(getattr(module, kind)) for kind in HOOKS)


def _look(hooks: dict[int, Callable]) -> bool:
    return any(not getattr(hook, "__module__", "").startswith(MACHINERY) for hook in hooks.values())
