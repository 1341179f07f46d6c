"""The precisions in which the towers compute, by open_clip's names; the loss has its own rules.

fp32                     float32
amp_bf16, amp_bfloat16   float32 parameters, products in bfloat16
amp, amp_fp16            the same in float16, with a scaled loss: "amp" means float16 in open_clip
bf16, fp16               matrices in 16 bits, gains and embeddings in float32; in training, AdamW
                         updates a float32 master of every matrix (`master_weights.py`)
pure_bf16, pure_fp16     every parameter in 16 bits, without a master, as in open_clip
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from fastclip.models.precision import EVERYTHING, MATRICES

AUTOCAST = {
    "amp": torch.float16, "amp_fp16": torch.float16,
    "amp_bf16": torch.bfloat16, "amp_bfloat16": torch.bfloat16,
}  # fmt: skip
IN_16_BITS = {**MATRICES, **EVERYTHING}
PRECISIONS = ("fp32", *AUTOCAST, *IN_16_BITS)
CAUTIONS = {
    "fp16": (
        "--precision fp16 computes gradients of float16 parameters in float16 without scaling the "
        "loss, as open_clip does: gradients below 6e-8 are lost, and the loss may stay where it "
        "begins. Use amp, amp_bf16 or bf16, which do not have this problem"
    ),
    "pure_fp16": (
        "--precision pure_fp16 trains float16 parameters without a float32 copy, as open_clip "
        "does: a step that changes a weight by less than 1/4096 of it is lost, so weights do not "
        "change at the learning rates of fine-tuning; gradients and AdamW's averages below 6e-8 "
        "are lost too, and the loss may stay where it begins. Use amp, amp_bf16 or bf16, which do "
        "not have these problems"
    ),
    "pure_bf16": (
        "--precision pure_bf16 trains bfloat16 parameters without a float32 copy, as open_clip "
        "does: a step that changes a weight by less than 1/512 of it is lost, so most weights do "
        "not change at the learning rates of fine-tuning. Use bf16, which has a float32 copy, or "
        "amp_bf16: they do not have this problem"
    ),
}


class TowerPrecision:
    """The precision in which towers compute on a device.

    Attributes:
        name: one of `PRECISIONS`.
        device: the device of the towers.
        parameters: the precision of the parameters, as `set_precision` takes it.
        input_dtype: the dtype of the images that the model takes.
    """

    def __init__(self, name: str | None, device: torch.device) -> None:
        """Choose the precision `name`; None is "amp_bf16" on a GPU and "fp32" elsewhere."""
        self.name = name or ("amp_bf16" if device.type == "cuda" else "fp32")
        self.device = device
        self.parameters = "fp32" if self.name in AUTOCAST else self.name
        self.input_dtype = IN_16_BITS.get(self.name, torch.float32)

    def autocast(self) -> AbstractContextManager:
        """Return the context in which a forward must run."""
        if self.name not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.name])

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return a scaler of the loss for float16 autocast, which avoids underflow; else None."""
        if AUTOCAST.get(self.name) != torch.float16:
            return None
        return torch.amp.GradScaler(self.device.type)

    @property
    def has_masters(self) -> bool:
        """Whether the optimiser updates float32 copies of the 16-bit parameters."""
        return self.name in MATRICES

    def of_float32(self) -> "TowerPrecision":
        """Return the precision for a float32 copy of the model, such as an average of its weights.

        Matrix products of the copy have the dtype of the model's own products.
        """
        products = IN_16_BITS.get(self.name)
        names = {None: self.name, torch.float16: "amp_fp16", torch.bfloat16: "amp_bf16"}
        return TowerPrecision(names[products], self.device)

    @property
    def caution(self) -> str | None:
        """A warning for users of this precision before a long run, or None."""
        return CAUTIONS.get(self.name)
