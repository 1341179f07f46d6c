"""The settings that say how a run computes: its device, its precision and its ranks."""

from dataclasses import dataclass

from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.models.precision import MATRICES
from fastclip.models.tower_precision import PRECISIONS
from fastclip.train.settings.setting import Settings, setting

A_YEAR = 525_600  # minutes


@dataclass(frozen=True)
class ComputeConfig(Settings):
    """The settings of computation, which change the results of a run by no more than rounding."""

    precision: str | None = setting(
        None,
        "The precision in which the towers compute. By default it is amp_bf16 on a GPU, and fp32 "
        "elsewhere. With bf16 and fp16, the optimiser updates float32 copies of the 16-bit "
        "weights; with pure_bf16 and pure_fp16 it updates the 16-bit weights themselves, and small "
        "updates are lost.",
        choices=PRECISIONS,
    )
    backend: str = setting(
        "auto",
        "The backend that computes the loss. fastclip.explain_backends() lists the backends and "
        "says which of them run here.",
    )
    loss_schedule: str = setting(
        "gather",
        "The way in which ranks exchange features for the loss: gather copies the features of all "
        "ranks to each rank, and ring passes them on from rank to rank, which takes less memory.",
        choices=LOSS_SCHEDULES,
    )
    fsdp: bool = setting(
        False, "Shard the weights, their gradients and AdamW's averages over the ranks with FSDP2."
    )
    device: str | None = setting(
        None, "The device to train on, cpu or cuda. By default it is the GPU, if there is one."
    )
    dist_backend: str | None = setting(
        None,
        "The library by which ranks communicate, nccl or gloo. By default it is nccl on GPUs, and "
        "gloo elsewhere.",
    )
    dist_timeout_minutes: float = setting(
        10.0,
        "The number of minutes that ranks wait for a late rank, such as the first rank while it "
        "evaluates or saves, before the run fails.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # A scaler looks for overflow in its rank's gradients only: ranks would take other steps.
        scaled = self.fsdp and self.precision in ("amp", "amp_fp16")
        self._require(
            not scaled, "precision", "amp_bf16, or another without a scaler, if fsdp is true"
        )
        mixed = self.fsdp and self.precision in MATRICES
        self._require(
            not mixed, "precision", "one that holds all parameters in one dtype if fsdp is true"
        )
        waits = 0 < self.dist_timeout_minutes <= A_YEAR
        self._require(waits, "dist_timeout_minutes", f"above 0 and at most {A_YEAR}, a year")
