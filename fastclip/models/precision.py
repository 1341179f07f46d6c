"""The dtypes in which a model can be held, by open_clip's names.

    fp32, amp, amp_bf16, ...   float32 parameters
    fp16, bf16                 matrices in 16 bits; gains, embeddings and the scale in float32
    pure_fp16, pure_bf16       every parameter in 16 bits

Source: `convert_weights` of openai/CLIP; `--precision` of open_clip 3.3.0.
"""

import torch
from torch import nn

MATRICES = {"fp16": torch.float16, "bf16": torch.bfloat16}
EVERYTHING = {"pure_fp16": torch.float16, "pure_bf16": torch.bfloat16}
FLOAT32 = ("fp32", "amp", "amp_bf16", "amp_bfloat16")
PRECISIONS = (*FLOAT32, *MATRICES, *EVERYTHING)
# Parameters of transformers that are matrices and not those of a Linear.
BARE_MATRICES = ("in_proj_weight", "in_proj_bias", "proj", "text_projection")


def set_precision(model: nn.Module, precision: str) -> nn.Module:
    """Convert the parameters of `model`, in place, and return it.

    Raises:
        ValueError: `precision` is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if precision in EVERYTHING:
        return model.to(EVERYTHING[precision])
    if precision in FLOAT32:
        return model.float()
    dtype = MATRICES[precision]
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(dtype)
        for name, parameter in module.named_parameters(recurse=False):
            if name in BARE_MATRICES:
                parameter.data = parameter.data.to(dtype)
    return model
