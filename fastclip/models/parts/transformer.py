"""A pre-norm transformer.

    x = x + attention(ln_1(x))
    x = x + mlp(ln_2(x))

A tower that is read out at one token per sequence needs the last block's result at that token only:
keys and values of all tokens, but one query, one output projection and one MLP. `read_at` says
which token. The result is the same, and at 50 tokens it saves nine tenths of the last block's work.
`reading.py` decides when to do so.

Modules are named and called as in OpenAI's CLIP and in open_clip, so that code that works on the
inside of their towers works on these, too. Their layouts differ, and both are supported:

    open_clip   (B, T, width), and a causal mask is an argument
    OpenAI      (T, B, width), and every block keeps a causal mask (`become_sequence_first`)

A tensor does not show which of the two layouts it has. Calls that are evidently wrong raise: a
causal block without a mask, a mask of another length, and tokens where the batch is expected. A
caller that knows the layout passes `batch_first=`.

Source: Vaswani et al. 2017, arXiv:1706.03762; initialisation as in Radford et al. 2019 (GPT-2):
projections that add to the residual stream start smaller, the deeper the stack. LayerScale: Touvron
et al. 2021, arXiv:2103.17239.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.activations import make_activation
from fastclip.models.parts.attention import Attention
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, run_layers
from fastclip.models.parts.masks import ReadAt, hidden_behind, mask_at, mask_of, moved_by


class LayerScale(nn.Module):
    """A learned gain per channel on what a block adds to its stream."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        # Gains stay in float32 where matrices have 16 bits; the stream must not become float32.
        return (x * self.gamma).to(x.dtype)


class ResidualBlock(nn.Module):
    """Attention, then an MLP on each token, each added to a (B, T, width) stream.

    Attributes:
        causal: whether the block needs a mask; a call without one raises.
        num_tokens: the length of the tower's sequences, or None if it is not known.
        batch_first: whether the block takes (B, T, width), or else (T, B, width).
        attn_mask: the mask of calls without one, as in OpenAI's blocks, or None. Like theirs it is
            no buffer, which wrappers such as DistributedDataParallel would broadcast.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        causal: bool,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm_eps: float = 1e-5,
        ls_init_value: float | None = None,
        num_tokens: int | None = None,
    ) -> None:
        super().__init__()
        hidden_width = int(width * mlp_ratio)
        self.causal = causal
        self.num_tokens = num_tokens
        self.batch_first = True
        self.attn_mask: Tensor | None = None
        self.ln_1 = LayerNorm(width, norm_eps)
        self.attn = Attention(width, heads)
        self.ls_1 = _layer_scale(width, ls_init_value)
        self.ln_2 = LayerNorm(width, norm_eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden_width),
                gelu=make_activation(activation),
                c_proj=nn.Linear(hidden_width, width),
            )
        )
        self.ls_2 = _layer_scale(width, ls_init_value)

    def get_weight_dtype(self) -> torch.dtype:
        """The dtype of the block's matrices."""
        return matrix_dtype(self)

    def attention(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Return what tokens `q_x` read from `k_x`, by default from themselves.

        All tokens are already normalised.

        Raises:
            ValueError: the block is causal and there is no mask.
        """
        k_x = q_x if k_x is None else k_x
        v_x = k_x if v_x is None else v_x
        attn_mask = self._mask(attn_mask)
        if attn_mask is not None:  # a user's mask may be on another device or of another dtype
            is_bool = attn_mask.dtype == torch.bool
            attn_mask = attn_mask.to(q_x.device, None if is_bool else q_x.dtype)
        return self.attn(q_x, k_x, v_x, need_weights=False, attn_mask=attn_mask)[0]

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
        read_at: ReadAt = None,
        batch_first: bool | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return (B, T, width) tokens, or the (B, 1, width) tokens at the positions `read_at`.

        Args:
            q_x: (B, T, width), or (T, B, width) if the block's `batch_first` is False; the result
                has the same layout.
            k_x, v_x: must be None; open_clip has them for cross-attention.
            attn_mask: (T, T), or (B * heads, T, T) per sample and head, either True where nothing
                is read or a float that is added to the logits; by default the block's `attn_mask`.
            read_at: the position of the one token per sequence that is computed; None for all.
            batch_first: the layout of `q_x`, if the caller knows it; with None, tokens that look
                like the other layout raise.
            is_causal: whether the mask is the one that hides later tokens from each token, and is
                not needed as a tensor: kernels that apply it themselves are faster.

        Raises:
            ValueError: the block is causal and there is no mask, the mask has another length,
                `q_x` looks like the other layout, or `k_x` or `v_x` is given.
        """
        own_layout = self.batch_first
        if batch_first not in (None, own_layout):
            x = self(q_x.transpose(0, 1), k_x, v_x, attn_mask, read_at, own_layout, is_causal)
            return x.transpose(0, 1)
        if k_x is not None or v_x is not None:
            raise ValueError("k_x and v_x must be None: these blocks have no cross-attention")
        if batch_first is None:
            self._require_layout(q_x, self._mask(attn_mask))
        x, normed = q_x, self.ln_1(q_x)
        if read_at is None and is_causal:
            attended = self.attn(normed, normed, normed, need_weights=False, is_causal=True)[0]
            x = x + self.ls_1(attended)
        elif read_at is None:
            masks = {} if attn_mask is None else {"attn_mask": attn_mask}
            x = x + self.ls_1(self.attention(normed, **masks))
        else:
            if is_causal:
                mask = hidden_behind(read_at, normed.shape[1 if own_layout else 0], normed.device)
            else:
                mask = self._mask_at(attn_mask, read_at)
            query = take(normed, read_at, own_layout)
            attended = self.attention(query, normed, normed, attn_mask=mask)
            x = take(x, read_at, own_layout) + self.ls_1(attended)
        return x + self.ls_2(self.mlp(self.ln_2(x)))

    def _mask(self, attn_mask: Tensor | None) -> Tensor | None:
        attn_mask = self.attn_mask if attn_mask is None else attn_mask
        if attn_mask is None and self.causal:
            raise ValueError(
                "attn_mask is missing: these blocks are causal and, as in open_clip, take (B, T, "
                "width) tokens and the mask as an argument: pass attn_mask=model.attn_mask. For "
                "blocks that take OpenAI's (T, B, width) and keep their masks, load the model with "
                "fastclip.load"
            )
        return attn_mask

    def _mask_at(self, attn_mask: Tensor | None, read_at: Tensor | int) -> Tensor | None:
        """The rows of the mask for one query per sequence."""
        attn_mask = self._mask(attn_mask)
        return None if attn_mask is None else mask_at(attn_mask, read_at)

    def _require_layout(self, x: Tensor, attn_mask: Tensor | None) -> None:
        batch_first = self.batch_first
        layout, other = "(B, T, width)", "(T, B, width)"
        if not batch_first:
            layout, other = other, layout
        B, T = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
        if attn_mask is not None and attn_mask.shape[-1] != T:
            raise ValueError(
                f"the mask is for {attn_mask.shape[-1]} tokens, but there are {T} tokens in "
                f"dimension {1 if batch_first else 0} of {tuple(x.shape)}: these blocks take "
                f"{layout}; if the input is {other}, pass batch_first={not batch_first}"
            )
        if self.num_tokens in (None, T):
            return
        # A batch of as many samples as the tower has tokens, each of another number of tokens, is
        # possible (learned prompts change the number), but may also be the other layout. Code that
        # is sequence first transposes contiguous tokens, which shows in the strides.
        is_turned = x.stride(0) < x.stride(1)
        if attn_mask is None and self.num_tokens == B and batch_first == is_turned:
            raise ValueError(
                f"{tuple(x.shape)} looks like {other}, because the tower's sequences have "
                f"{self.num_tokens} tokens, but these blocks take {layout}: pass "
                f"batch_first={not batch_first} if the input is {other}, or "
                f"batch_first={batch_first} if it is {layout}"
            )


# The original functions: other people's code may patch the class as well as its instances.
BLOCK_FORWARD, BLOCK_ATTENTION = ResidualBlock.forward, ResidualBlock.attention


class Transformer(nn.Module):
    """A stack of `layers` residual blocks on (B, T, width).

    Attributes:
        batch_first: whether the transformer takes (B, T, width), or else (T, B, width).
        grad_checkpointing: whether blocks keep only their inputs and run again in the backward.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        causal: bool = False,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm_eps: float = 1e-5,
        ls_init_value: float | None = None,
        num_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = layers
        self.batch_first = True
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(
            ResidualBlock(
                width, heads, causal, mlp_ratio, activation, norm_eps, ls_init_value, num_tokens
            )
            for _ in range(layers)
        )
        initialize(self.resblocks, width, layers)

    def get_cast_dtype(self) -> torch.dtype:
        """The dtype of the blocks' matrices."""
        return matrix_dtype(self.resblocks)

    def become_sequence_first(self) -> None:
        """Switch to OpenAI's layout, (T, B, width), in every block and its attention.

        Calls without a mask then use each block's `attn_mask`, which the caller sets.
        """
        self.batch_first = False
        for block in self.resblocks:
            block.causal = False
            block.batch_first = block.attn.batch_first = False
        self.resblocks = nn.Sequential(*self.resblocks)  # OpenAI's `resblocks` can be called

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        read_at: ReadAt = None,
        batch_first: bool | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return (B, T, width) tokens, or the (B, width) tokens at the positions `read_at`.

        Args:
            x: (B, T, width), or (T, B, width) if the transformer's `batch_first` is False; all
                tokens are returned in the same layout.
            attn_mask: (T, T), like open_clip's `model.attn_mask`; see `ResidualBlock.forward`.
            read_at: the position of the one token per sequence that is returned; None for all.
            batch_first: the layout of `x`, if the caller knows it.
            is_causal: see `ResidualBlock.forward`.

        Raises:
            ValueError: see `ResidualBlock.forward`.
        """
        if batch_first not in (None, self.batch_first):
            x = self(x.transpose(0, 1), attn_mask, read_at, self.batch_first, is_causal)
            return x.transpose(0, 1) if read_at is None else x
        last = len(self.resblocks) - 1
        for i, block in enumerate(self.resblocks):
            at = read_at if i == last else None
            x = self._run(block, x, attn_mask, at, batch_first, is_causal)
        if read_at is None:
            return x
        return x[:, 0] if self.batch_first else x[0]

    def forward_intermediates(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        indices: Indices = None,
        stop_early: bool = False,
        batch_first: bool | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the tokens after the last block, and the tokens after each block at `indices`.

        Args:
            x, attn_mask, batch_first, is_causal: see `forward`; results have the layout of `x`.
            indices, stop_early: see `run_layers`.

        Raises:
            ValueError: there is no such block; see also `ResidualBlock.forward`.
        """
        if batch_first not in (None, self.batch_first):
            x, found = self.forward_intermediates(
                x.transpose(0, 1), attn_mask, indices, stop_early, self.batch_first, is_causal
            )
            return x.transpose(0, 1), [each.transpose(0, 1) for each in found]

        def run(block: nn.Module, x: Tensor) -> Tensor:
            return self._run(block, x, attn_mask, None, batch_first, is_causal)

        return run_layers(self.resblocks, run, x, indices, stop_early)

    def _run(
        self,
        block: nn.Module,
        x: Tensor,
        attn_mask: Tensor | None,
        read_at: ReadAt,
        batch_first: bool | None,
        is_causal: bool,
    ) -> Tensor:
        arguments = {}
        if runs(block, BLOCK_FORWARD):  # a replaced block is called as OpenAI's and open_clip's are
            arguments = {"read_at": read_at, "batch_first": batch_first, "is_causal": is_causal}
            if attn_mask is None and batch_first is not None and block.attn_mask is not None:
                num_tokens = x.shape[1 if self.batch_first else 0]
                attn_mask = mask_of(block.attn_mask, num_tokens, x.device)
        if attn_mask is not None:
            arguments["attn_mask"] = attn_mask
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False, **arguments)
        return block(x, **arguments)

    def _apply(self, fn: Callable, recurse: bool = True) -> "Transformer":
        super()._apply(fn, recurse)
        moved: dict[int, Tensor] = {}  # blocks that shared one mask still share it when moved
        for block in self.resblocks:
            if isinstance(kept := getattr(block, "attn_mask", None), Tensor):
                if id(kept) not in moved:
                    moved[id(kept)] = moved_by(fn, kept)
                block.attn_mask = moved[id(kept)]
        return self


def initialize(blocks: Iterable[ResidualBlock], width: int, layers: int) -> None:
    """Draw the matrices of a stack of `layers` blocks, as the module's docstring says."""
    residual_std = width**-0.5 * (2 * layers) ** -0.5
    for block in blocks:
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)
        for linear in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
            nn.init.zeros_(linear.bias)


def take(x: Tensor, positions: Tensor | int, batch_first: bool = True) -> Tensor:
    """Return the (B, 1, width) tokens of (B, T, width) at one position, or at (B,) positions.

    If `batch_first` is False, `x` is (T, B, width) and the result is (1, B, width).
    """
    dim = 1 if batch_first else 0
    if isinstance(positions, int):
        return x.select(dim, positions).unsqueeze(dim)
    positions = positions.unsqueeze(dim)[..., None]
    return x.gather(dim, positions.expand(-1, -1, x.shape[-1]))


def matrix_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's matrices, even if some of its layers were replaced.

    It does not read `parameters()`: DataParallel's copies of a module on other devices have none.
    """
    for part in module.modules():
        for name in () if isinstance(part, nn.LayerNorm) else ("in_proj_weight", "weight"):
            # Read around torch.fx, whose proxy of a parameter has no dtype yet.
            weight = part._parameters.get(name)
            weight = getattr(part, name, None) if weight is None else weight
            if isinstance(weight, Tensor) and weight.is_floating_point():
                return weight.dtype
    return torch.get_default_dtype()


def runs(module: nn.Module, forward: Callable) -> bool:
    """Return whether a call of `module` runs `forward`, not a replacement in it or its class."""
    return type(module).forward is forward and "forward" not in module.__dict__


def _layer_scale(width: int, initial: float | None) -> nn.Module:
    return nn.Identity() if initial is None else LayerScale(width, initial)
