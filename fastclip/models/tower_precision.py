"""How the towers compute, by open_clip's names of it; the loss has its own rules.

fp32                     float32
amp_bf16, amp_bfloat16   float32 parameters, products in bfloat16
amp, amp_fp16            the same in float16, with a scaled loss: "amp" is open_clip's float16
bf16, fp16               matrices in 16 bits, gains and embeddings in float32; in training AdamW
                         steps a float32 master of every matrix (`master_weights.py`)
pure_bf16, pure_fp16     every parameter in 16 bits, and no master, as in open_clip
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
        "--precision fp16 makes gradients of float16 parameters in float16 and does not scale the "
        "loss, as open_clip does: gradients below 6e-8 are lost, and the loss may stay where it "
        "begins; amp, amp_bf16 and bf16 do not have this"
    ),
    "pure_fp16": (
        "--precision pure_fp16 trains float16 parameters without a float32 copy, as open_clip "
        "does: a step that changes a weight by less than 1/4096 of it is lost, so that weights "
        "stand still at the learning rates of fine-tuning; gradients and AdamW's averages below "
        "6e-8 are lost too, and the loss may stay where it begins; amp, amp_bf16 and bf16 do not "
        "have this"
    ),
    "pure_bf16": (
        "--precision pure_bf16 trains bfloat16 parameters without a float32 copy, as open_clip "
        "does: a step that changes a weight by less than 1/512 of it is lost, so that most weights "
        "stand still at the learning rates of fine-tuning; bf16 (which has a float32 copy) and "
        "amp_bf16 do not have this"
    ),
}


class TowerPrecision:
    """Attributes:
    name: one of `PRECISIONS`.
    parameters: the name of it that models know.
    input_dtype: the dtype of images that the model takes.
    """

    def __init__(self, name: str | None, device: torch.device) -> None:
        """
        Args:
            name: None for "amp_bf16" on a GPU and "fp32" elsewhere.
        """
        self.name = name or ("amp_bf16" if device.type == "cuda" else "fp32")
        self.device = device
        self.parameters = "fp32" if self.name in AUTOCAST else self.name
        self.input_dtype = IN_16_BITS.get(self.name, torch.float32)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward."""
        if self.name not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.name])

    def scaler(self) -> torch.amp.GradScaler | None:
        """For float16 products of float32 parameters, whose gradients would underflow."""
        if AUTOCAST.get(self.name) != torch.float16:
            return None
        return torch.amp.GradScaler(self.device.type)

    @property
    def has_masters(self) -> bool:
        """Does the optimiser step float32 copies of the 16-bit parameters?"""
        return self.name in MATRICES

    def of_float32(self) -> "TowerPrecision":
        """The precision of a float32 copy of the model, such as an average of its weights.

        Its products are of the dtype that the model's own products are of.
        """
        products = IN_16_BITS.get(self.name)
        names = {None: self.name, torch.float16: "amp_fp16", torch.bfloat16: "amp_bf16"}
        return TowerPrecision(names[products], self.device)

    @property
    def caution(self) -> str | None:
        """What a user of this precision should know before a long run."""
        return CAUTIONS.get(self.name)
