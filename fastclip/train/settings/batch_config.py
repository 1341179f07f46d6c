"""The settings of a batch, and the arithmetic that follows from them."""

import math
from dataclasses import dataclass

from fastclip.counted import counted
from fastclip.train.memory.activation_budget import parse_budget
from fastclip.train.settings.setting import Settings, setting


@dataclass(frozen=True)
class BatchConfig(Settings):
    """The settings for the number of pairs in one loss, and for encoding them."""

    global_batch_size: int | None = setting(
        None,
        "The number of pairs in one loss, over all ranks. By default it is --batch-size times "
        "--accum-freq times the number of ranks.",
        least=1,
    )
    micro_batch_size: int | None = setting(
        None,
        "The number of pairs that a rank encodes at a time. By default it is --batch-size or, with "
        "--global-batch-size, the largest divisor of --batch-size that also divides the number of "
        "pairs of a rank.",
        least=1,
    )
    activation_budget: str = setting(
        "auto",
        "The memory for activations of micro-batches. A micro-batch whose activations fit is "
        "encoded once in each step, any other one twice. The value is a number of bytes, such as "
        "20GiB; 0, with which every micro-batch is encoded twice; unlimited; or auto for the "
        "memory that is free after the first step.",
        of_number=str,
        metavar="BYTES",
    )
    batch_size: int = setting(
        64,
        "The number of pairs that a rank encodes at a time, under open_clip's name. On one rank "
        "without --accum-freq and --global-batch-size, these pairs are the batch of the loss. The "
        "global batch has --accum-freq times as many pairs from each rank, unless "
        "--global-batch-size is given.",
        least=1,
    )
    accum_freq: int = setting(
        1, "The number of micro-batches of a rank in one loss, under open_clip's name.", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation_budget != "auto":
            parse_budget(self.activation_budget)

    def arithmetic(self, world_size: int) -> "Arithmetic":
        """Return how the pairs of a step are divided among ranks and micro-batches.

        Raises:
            ValueError: the global batch is not a multiple of ranks x micro-batch, or disagrees
                with `accum_freq`.
        """
        micro = self.micro_batch_size or self.batch_size
        whole = self.global_batch_size or self.batch_size * self.accum_freq * world_size
        if self.global_batch_size is not None and self.micro_batch_size is None:
            micro = math.gcd(whole // world_size or 1, micro) if whole % world_size == 0 else micro
        if whole % (world_size * micro):
            ranks = counted(world_size, "rank")
            raise ValueError(
                f"global_batch_size {whole} must be a multiple of the pairs that all ranks encode "
                f"at a time, {ranks} x micro_batch_size {micro} = {world_size * micro}"
            )
        count = whole // (world_size * micro)
        if self.global_batch_size is not None and self.accum_freq not in (1, count):
            raise ValueError(
                f"accum_freq {self.accum_freq} disagrees with global_batch_size {whole}, which "
                f"gives every rank {count} micro-batches: leave one of the two settings out"
            )
        return Arithmetic(world_size, count, micro)


@dataclass(frozen=True)
class Arithmetic:
    """The sizes of a step: ranks x micro-batches x pairs of each = pairs in one loss."""

    world_size: int
    num_micro_batches: int
    micro_batch_size: int

    @property
    def global_batch_size(self) -> int:
        return self.world_size * self.num_micro_batches * self.micro_batch_size

    def __str__(self) -> str:
        return (
            f"{counted(self.global_batch_size, 'pair')} in one loss = "
            f"{counted(self.world_size, 'rank')} x "
            f"{counted(self.num_micro_batches, 'micro-batch', 'micro-batches')} x "
            f"{counted(self.micro_batch_size, 'pair')}"
        )
