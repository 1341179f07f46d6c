"""Tracing models to TorchScript programs, which run without Python.

A trace computes what the model computes in evaluation mode, for batches of any size, on the device
and in the dtypes with which it was made. All settings are fixed.
"""

import warnings

import torch

from fastclip.models.contrastive_model import ContrastiveModel
from fastclip.models.model_settings import (
    get_model_preprocess_cfg,
    get_model_tokenize_cfg,
    set_model_preprocess_cfg,
)

# These methods add `normalize`, a choice of the caller that a trace itself cannot offer.
ENCODE = """
def encode_{side}(self, {side}: Tensor, normalize: bool = False) -> Tensor:
    features = self._{side}_features({side})
    if normalize:
        features = torch.nn.functional.normalize(features, dim=-1)
    return features
"""


def trace_model(
    model: ContrastiveModel, batch_size: int = 256, device: str | torch.device = "cpu"
) -> torch.jit.ScriptModule:
    """Trace `model` to a TorchScript program that shares its parameters.

    `model` is in evaluation mode afterwards.

    Args:
        model: `CLIP` or `CustomTextCLIP`, on `device`.
        batch_size: the batch size of the trace; the program takes any other one too.
        device: where the program computes.

    Returns:
        A `ScriptModule` with `forward(image, text)`, `encode_image(image, normalize=False)`,
        `encode_text(text, normalize=False)` and the state dict of `model`, to which TorchScript
        adds the mask. `context_length`, `vocab_size`, `visual.image_size` and the settings
        of preprocessing are attributes of the Python object; `torch.jit.save` writes the program
        without them.

    Raises:
        TypeError: `model` is not a built-in model, so the shapes of its inputs are not known.
        ValueError: a tower also returns its tokens (`output_tokens`).

    Example:
        >>> program = fastclip.trace_model(model, batch_size=2)
        >>> torch.equal(program.encode_image(images), model.encode_image(images))
        True
    """
    visual = getattr(model, "visual", None)
    sizes = get_model_tokenize_cfg(model)
    if not hasattr(visual, "image_size") or "context_length" not in sizes:
        raise TypeError(f"only built-in models can be traced, not {type(model).__name__}")
    if visual.output_tokens or getattr(model, "text", model).output_tokens:
        raise ValueError("a model whose towers have output_tokens=True cannot be traced")
    image = torch.ones(batch_size, visual.channels, *visual.image_size, device=device)
    text = torch.zeros(batch_size, sizes["context_length"], dtype=torch.int64, device=device)
    with warnings.catch_warnings():
        # Tracing warns that checks of shapes become constants.
        warnings.simplefilter("ignore")
        program = torch.jit.trace_module(
            model.eval(),
            {"forward": (image, text), "_image_features": (image,), "_text_features": (text,)},
            strict=False,  # `output_dict`: the keys of a dict are always the same
            check_trace=False,
        )
        for side in ("image", "text"):
            program.define(ENCODE.format(side=side))
    for name, size in sizes.items():
        setattr(program, name, size)
    program.visual.image_size = visual.image_size
    if hasattr(visual, "preprocess_cfg"):
        set_model_preprocess_cfg(program, get_model_preprocess_cfg(model))
    return program
