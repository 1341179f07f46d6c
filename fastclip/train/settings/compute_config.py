"""The settings of how a run computes: on which device, in which precision, over which ranks."""

from dataclasses import dataclass

from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.models.precision import MATRICES
from fastclip.models.tower_precision import PRECISIONS
from fastclip.train.settings.setting import Settings, setting

A_YEAR = 525_600  # minutes


@dataclass(frozen=True)
class ComputeConfig(Settings):
    """What a run computes with; none of it changes what it computes, but for rounding."""

    precision: str | None = setting(
        None,
        "The precision in which the towers compute. By default it is amp_bf16 on a GPU, and fp32 "
        "elsewhere. bf16 and fp16 step float32 copies of their 16-bit weights; pure_bf16 and "
        "pure_fp16 have none and lose small steps.",
        choices=PRECISIONS,
    )
    backend: str = setting(
        "auto",
        "The backend that computes the loss; fastclip.explain_backends() says which there are.",
    )
    loss_schedule: str = setting(
        "gather",
        "The way of the loss over ranks: gather copies the features of all ranks to each of them, "
        "and ring passes them on from rank to rank.",
        choices=LOSS_SCHEDULES,
    )
    fsdp: bool = setting(
        False, "Shard weights, gradients and the averages of AdamW over the ranks, by FSDP2."
    )
    device: str | None = setting(
        None, "The device to train on, cpu or cuda. By default it is the GPU, if there is one."
    )
    dist_backend: str | None = setting(
        None,
        "The way that ranks communicate, nccl or gloo. By default it is nccl on GPUs, and gloo "
        "elsewhere.",
    )
    dist_timeout_minutes: float = setting(
        10.0,
        "The number of minutes that ranks wait for one that is late, such as the first while it "
        "evaluates or saves, before the run fails.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # A scaler looks for overflow in its own gradients only; ranks would part ways.
        scaled = self.fsdp and self.precision in ("amp", "amp_fp16")
        self._require(not scaled, "precision", "amp_bf16 or one without a scaler with fsdp")
        mixed = self.fsdp and self.precision in MATRICES
        self._require(not mixed, "precision", "of one dtype for all parameters with fsdp")
        waits = 0 < self.dist_timeout_minutes <= A_YEAR
        self._require(waits, "dist_timeout_minutes", f"above 0 and at most {A_YEAR} (a year)")
