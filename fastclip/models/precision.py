"""The dtypes in which a model's parameters can be held, by open_clip's names.

    fp32, amp, amp_bf16, ...   float32 parameters
    fp16, bf16                 matrices in 16 bits; gains, embeddings and the scale in float32;
                               timm's and transformers' towers, which need one dtype, all in 16 bits
    pure_fp16, pure_bf16       every parameter in 16 bits

Source: `convert_weights` of openai/CLIP; `--precision` of open_clip 3.3.0.
"""

import torch
from torch import nn

MATRICES = {"fp16": torch.float16, "bf16": torch.bfloat16}
EVERYTHING = {"pure_fp16": torch.float16, "pure_bf16": torch.bfloat16}
FLOAT32 = ("fp32", "amp", "amp_bf16", "amp_bfloat16")
PRECISIONS = (*FLOAT32, *MATRICES, *EVERYTHING)
# Parameters of transformer blocks that are matrices without being a Linear's weight.
BARE_MATRICES = ("in_proj_weight", "in_proj_bias", "proj", "text_projection")
BARE_MATRICES += ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def set_precision(model: nn.Module, precision: str) -> nn.Module:
    """Convert the parameters and buffers of `model`, in place, and return it.

    Raises:
        ValueError: `precision` is unknown.
    """
    _known(precision)
    whole = _of_one_dtype(model)
    for module in model.modules():
        for name, tensor in (
            *module.named_parameters(recurse=False), *module.named_buffers(recurse=False)
        ):  # fmt: skip
            # `module.to` refuses tensors without data, which `fastclip plan` uses.
            if tensor.is_floating_point():
                dtype = _dtype_of(module, name, tensor, precision, module in whole)
                tensor.data = tensor.data.to(dtype)
    return model


def _of_one_dtype(model: nn.Module) -> set[nn.Module]:
    """Return all modules of towers with `in_one_dtype`, which are in 16 bits as a whole."""
    towers = (module for module in model.modules() if getattr(module, "in_one_dtype", False))
    return {module for tower in towers for module in tower.modules()}


def _dtype_of(
    module: nn.Module, name: str, tensor: torch.Tensor, precision: str, whole: bool
) -> torch.dtype:
    if precision in EVERYTHING:
        return EVERYTHING[precision]
    if precision in FLOAT32:
        return torch.float32
    is_matrix = whole or isinstance(module, (nn.Linear, nn.Conv2d)) or name in BARE_MATRICES
    return MATRICES[precision] if is_matrix else tensor.dtype


def get_cast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype of the matrices if `precision` is "fp16" or "bf16", otherwise None.

    Raises:
        ValueError: `precision` is unknown.

    Example:
        >>> fastclip.get_cast_dtype("bf16")
        torch.bfloat16
    """
    return MATRICES.get(_known(precision))


def get_input_dtype(precision: str) -> torch.dtype | None:
    """Return the 16-bit dtype of the images that a model of `precision` takes, or None.

    Raises:
        ValueError: `precision` is unknown.

    Example:
        >>> fastclip.get_input_dtype("pure_bf16")
        torch.bfloat16
    """
    return (MATRICES | EVERYTHING).get(_known(precision))


def convert_weights_to_lp(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Convert the matrices of `model` to 16 bits, in place, as OpenAI's `convert_weights` does.

    Args:
        dtype: `torch.float16` or `torch.bfloat16`.

    Raises:
        ValueError: `dtype` is another dtype.

    Example:
        >>> fastclip.convert_weights_to_lp(model, torch.bfloat16)
    """
    names = {matrices: name for name, matrices in MATRICES.items()}
    if dtype not in names:
        raise ValueError(f"dtype must be one of {list(names)}, got {dtype}")
    set_precision(model, names[dtype])


convert_weights_to_fp16 = convert_weights_to_lp  # open_clip's second name for the function


def _known(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    return precision
