"""Loading weights into a model, after checks of its tensors, activations, heads and pooling."""

from os import PathLike

import torch
from torch import Tensor, nn

from fastclip.data.quoting import named
from fastclip.models.checkpoints.errors import (
    ActivationMismatchError,
    CheckpointError,
    KeyMismatchError,
)
from fastclip.models.checkpoints.files import read_weights_file
from fastclip.models.checkpoints.resize import resize_positions
from fastclip.models.checkpoints.stored_model import StoredModel, read_stored_model
from fastclip.models.contrastive_model import ContrastiveModel

TEXT_KEYS = (
    "text_projection",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
)

# Fields of a tower's configuration on which features depend and the shapes of tensors do not.
READOUT = (
    "heads", "pool_type", "no_causal_mask", "attn_pooler_heads", "pad_id", "hf_config",
    "hf_pooler_type", "trunk_without_size", "timm_pool", "first_place", "reference_grid",
)  # fmt: skip


def load_checkpoint(
    model: ContrastiveModel,
    checkpoint_path: str | PathLike,
    strict: bool = True,
    weights_only: bool = True,
    device: str | torch.device = "cpu",
    *,
    resize: bool = False,
) -> KeyMismatchError | None:
    """Load the weights at `checkpoint_path` into `model`, in place.

    Args:
        model: `CLIP`, `CustomTextCLIP`, or a `TwoTower` whose keys the file has.
        checkpoint_path: any file or directory that `read_stored_model` reads.
        strict: raise if some tensors do not fit; otherwise load the tensors that fit.
        weights_only: must be True, because no file is allowed to run code.
        device: accepted for open_clip's signature, without effect: a file is read on the CPU, and
            its tensors are copied to the device of the model.
        resize: interpolate position embeddings to the model's image size and text length.

    Returns:
        A `KeyMismatchError` that lists the tensors that did not fit, or None if all did. It is
        always None if `strict`.

    Raises:
        FileNotFoundError, CheckpointError: see `read_stored_model`.
        ActivationMismatchError: the weights are known to have another activation.
        CheckpointError: the weights are known to have other heads, another mask or another pooling.
        KeyMismatchError: `strict` is set, and tensors are missing, unknown or of another shape.
        ValueError: `weights_only` is False.

    Example:
        >>> model = fastclip.create_model("ViT-B-32")
        >>> fastclip.load_checkpoint(model, "logs/my-run/checkpoints/epoch_32.pt")
    """
    require_weights_only(weights_only)
    return load_stored_model(model, read_stored_model(checkpoint_path), strict, resize)


def load_state_dict(
    checkpoint_path: str | PathLike,
    device: str | torch.device = "cpu",
    weights_only: bool = True,
) -> dict[str, Tensor]:
    """Read the tensors of one file under their names in the file, without wrappers.

    Args:
        checkpoint_path: any file of weights that `read_weights_file` reads.
        device: the device of the returned tensors.
        weights_only: must be True.

    Raises:
        FileNotFoundError, CheckpointError: see `read_weights_file`.
        ValueError: `weights_only` is False.
    """
    require_weights_only(weights_only)
    tensors = read_weights_file(checkpoint_path).tensors
    return {name: value.to(device, copy=True) for name, value in tensors.items()}


def load_stored_model(
    model: ContrastiveModel,
    stored: StoredModel,
    strict: bool = True,
    resize: bool = False,
    assign: bool = False,
) -> KeyMismatchError | None:
    """Load a stored model that has been read already into `model`; see `load_checkpoint`.

    Parameters get memory of their own, whatever the stored tensors are views of. Nothing is
    converted or allocated before all shapes have been checked.

    Args:
        assign: for a model on the meta device: give it copies of the stored tensors, with
            floating-point tensors in float32.
    """
    _require_activations(model, stored)
    tensors = _without_tables(model, _with_keys_of(model, stored.tensors))
    if resize:
        tensors = resize_positions(tensors, model)
    mismatch = _mismatch(model, tensors)
    if mismatch is not None and strict:
        raise mismatch
    _require_readout(model, stored)
    own = model.state_dict()
    if mismatch is not None:
        tensors = {k: v for k, v in tensors.items() if k in own and v.shape == own[k].shape}
    _require_kinds(tensors, own)
    if assign:
        tensors = {name: _copy(value) for name, value in tensors.items()}
    model.load_state_dict(tensors, strict=mismatch is None, assign=assign)
    return mismatch


def require_weights_only(weights_only: bool) -> None:
    if not weights_only:
        raise ValueError("weights_only=False is not supported: no file is allowed to run code")


def _require_activations(model: nn.Module, stored: StoredModel) -> None:
    config = getattr(model, "config", None)
    if config is None:
        return
    for theirs, own in zip(stored.activations, config.activations, strict=True):
        if theirs is not None and own is not None and theirs != own:
            raise ActivationMismatchError(theirs, own)


def _require_readout(model: nn.Module, stored: StoredModel) -> None:
    """Raise if the weights' configuration differs from the model's in a field of `READOUT`."""
    config = getattr(model, "config", None)
    if config is None or stored.config is None:
        return
    for tower in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        theirs, own = getattr(stored.config, tower), getattr(config, tower)
        for fact in READOUT:
            before, now = getattr(theirs, fact, None), getattr(own, fact, None)
            if None not in (before, now) and before != now:
                raise CheckpointError(
                    f"the weights are of a model whose {tower} has {fact} {before!r}, but this "
                    f"model has {now!r}: it would return wrong features without an error. Build "
                    "the model with the configuration of the weights"
                )


def _with_keys_of(model: ContrastiveModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the prefix `text.` where the model has it, and scalars of its shape."""
    own = model.state_dict()
    has_text_prefix = any(name.startswith("text.") for name in own)
    if not has_text_prefix:
        tensors = {name.removeprefix("text."): value for name, value in tensors.items()}
    elif "token_embedding.weight" in tensors:
        tensors = {
            f"text.{name}" if name.startswith(TEXT_KEYS) else name: value
            for name, value in tensors.items()
        }
    tensors = dict(tensors)
    for name in {"logit_scale", "logit_bias"} & own.keys() & tensors.keys():
        if tensors[name].numel() == 1:
            tensors[name] = tensors[name].reshape(own[name].shape)
    for name in own.keys() - tensors.keys():
        if name.endswith("num_batches_tracked"):  # files older than PyTorch 0.4.1 have none
            tensors[name] = torch.tensor(0)
    return tensors


def _without_tables(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out tables that the model computes itself, such as positions.

    Files of older versions of transformers have them. A table that differs from the model's stays,
    so that the check of the names reports it as unexpected.
    """
    own = model.state_dict()
    tables = {n: t for n, t in model.named_buffers() if n not in own and n in tensors}
    known = {n for n, t in tables.items() if _is_like(tensors[n], t)}
    return {name: value for name, value in tensors.items() if name not in known}


def _is_like(value: Tensor, table: Tensor) -> bool:
    if value.shape != table.shape or value.layout != torch.strided or value.is_meta:
        return False
    return torch.allclose(value.double(), table.double().cpu(), rtol=1e-2, atol=1e-3)


def _require_kinds(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raise if a tensor is not dense, or has another kind of numbers than the model has there."""
    for name, value in tensors.items():
        is_real = own[name].is_floating_point()
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            raise CheckpointError(
                f"{named(name)} in the weights is sparse, nested or without data: fastclip loads "
                "dense tensors only"
            )
        if value.is_quantized or value.is_complex() or value.is_floating_point() != is_real:
            raise CheckpointError(
                f"{named(name)} has dtype {value.dtype} in the weights and {own[name].dtype} in "
                "the model: fastclip does not convert between these kinds of numbers"
            )


def _copy(value: Tensor) -> Tensor:
    """Return a dense copy with memory of its own, in float32 if its numbers are floating-point."""
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _mismatch(model: nn.Module, tensors: dict[str, Tensor]) -> KeyMismatchError | None:
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [
        f"{name}: {tuple(value.shape)} in the weights, {tuple(own[name].shape)} in the model"
        for name, value in tensors.items()
        if name in own and value.shape != own[name].shape
    ]
    if not (missing or unexpected or misshapen):
        return None
    return KeyMismatchError(missing, unexpected, misshapen)
