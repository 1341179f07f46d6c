"""How the towers compute, by open_clip's names of it; the loss has its own rules.

fp32                     float32
amp_bf16, amp_bfloat16   float32 parameters, products in bfloat16
amp, amp_fp16            the same in float16, with a scaled loss: "amp" is open_clip's float16
bf16, fp16               matrices in 16 bits, gains and embeddings in float32
pure_bf16, pure_fp16     every parameter in 16 bits
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


class TowerPrecision:
    """Attributes:
    name: one of `PRECISIONS`.
    parameters: the name of it that models know.
    input_dtype: of pictures that the model takes.
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
    def caution(self) -> str | None:
        """What a user of this precision should know before a long run."""
        if IN_16_BITS.get(self.name) != torch.float16:
            return None
        return (
            f"--precision {self.name} trains float16 parameters, as open_clip does: gradients and "
            "AdamW's averages below 6e-8 are lost, and the loss may stay where it begins; amp and "
            "amp_bf16 do not have this"
        )
