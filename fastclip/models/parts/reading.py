"""How towers run their transformers: the last block computes one token unless somebody watches it.

A last block that computes one token per sequence does not change the tower's features. But hooks on
the block, on a module in it or on the module after it would see one token instead of all, and a
block that was replaced or patched does not know how to compute only one. In each of these cases the
whole block is computed; the features are the same.

Hooks of PyTorch's own machinery (FSDP2, the FLOP counter) do not look at tokens and do not count.
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
# Forwards that compute each token on its own, or that are given the position to be read.
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
    """Run a tower's transformer on (B, T, width) tokens, and return (B, T, width) tokens.

    Args:
        transformer: a `Transformer` of either layout, or a module that replaced it, which is called
            with the tokens and, if there is one, `attn_mask`, as in open_clip.
        x: the tokens.
        attn_mask: (T, T), or None.
        read_at: return only the (B, width) tokens at these positions; see `is_observed`.
        is_causal: whether no token sees later tokens. If nothing could see or change the mask, it
            is not made: a kernel that knows the mask is causal is faster than one that reads it.
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
    """Return the (B, T, width) tokens after the last block, and after each block at `indices`.

    Args:
        transformer: see `read`; a module that replaced it needs a `forward_intermediates` like
            open_clip's.
        x, attn_mask, is_causal: see `read`.
        indices, stop_early: see `run_layers`.

    Raises:
        TypeError: the transformer has no `forward_intermediates`, or its `forward` was replaced, so
            that its blocks may be used in another way.
    """
    method = getattr(transformer, "forward_intermediates", None)
    is_ours = getattr(type(transformer), "forward_intermediates", None) is OWN_INTERMEDIATES
    if method is None or (is_ours and not runs(transformer, TRANSFORMER_FORWARD)):
        raise TypeError(
            f"forward_intermediates is not available: the tower's transformer "
            f"({type(transformer).__name__}) has another forward than fastclip's, which does not "
            "show what its layers return"
        )
    if is_causal and not _hides_the_mask(transformer):
        attn_mask, is_causal = causal_mask(x.shape[1], x), False
    if not is_ours:
        masks = {} if attn_mask is None else {"attn_mask": attn_mask}
        return method(x, indices=indices, stop_early=stop_early, **masks)
    return method(x, attn_mask, indices, stop_early, batch_first=True, is_causal=is_causal)


def is_observed(x: Tensor, transformer: nn.Module, norm: nn.Module) -> bool:
    """Return whether anything could notice that the last block computes only one token.

    Args:
        x: the transformer's input. A proxy of torch.fx counts as observed, because the graph that
            it records shows every token.
        transformer: the transformer whose last block is meant.
        norm: the module that follows the transformer in the tower.
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
    """Whether only fastclip's own blocks would see a mask: no hooks, no other modules."""
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
    """Whether a hook of `module` receives keyword arguments, among them the mask."""
    with_names = (*module._forward_pre_hooks_with_kwargs, *module._forward_hooks_with_kwargs)
    hooks = {**module._forward_pre_hooks, **module._forward_hooks}
    return _look({name: hooks[name] for name in with_names})


def _is_observed(module: nn.Module) -> bool:
    if type(module).forward not in KNOWN_FORWARDS or "forward" in module.__dict__:
        return True
    return any(_look(getattr(module, kind)) for kind in HOOKS)


def _look(hooks: dict[int, Callable]) -> bool:
    return any(not getattr(hook, "__module__", "").startswith(MACHINERY) for hook in hooks.values())
