"""How many steps of a run were taken, and how many were left out; a checkpoint has the numbers."""

from dataclasses import asdict, dataclass, fields


@dataclass
class StepCounts:
    """Every step of a run is one of three.

    Attributes:
        taken: changed the weights.
        skipped: had a loss or a gradient that is not finite.
        overflowed: had a gradient, scaled for float16, that is not finite; its scale was halved.
        skipped_in_a_row: since the last step that was taken.
        taken_in_epoch: of `taken`, those of the epoch that the run is in.
    """

    taken: int = 0
    skipped: int = 0
    overflowed: int = 0
    skipped_in_a_row: int = 0
    taken_in_epoch: int = 0

    @property
    def left_out(self) -> int:
        return self.skipped + self.overflowed

    def take(self) -> None:
        self.taken += 1
        self.taken_in_epoch += 1
        self.skipped_in_a_row = 0

    def skip(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1

    def overflow(self) -> None:
        self.overflowed += 1

    def begin_epoch(self) -> None:
        self.taken_in_epoch = 0

    def require_taken(self, num_taken: int, what: str) -> None:
        """
        Raises:
            FloatingPointError: none of the steps of `what` was taken, which is no success.
        """
        if num_taken == 0:
            raise FloatingPointError(
                f"no step of {what} was taken (of the whole run: {self.summary()}): lower the "
                "learning rate or, where float16 overflows, use --precision amp_bf16; --resume "
                "latest goes on with the scale of the loss that was found so far"
            )

    def summary(self) -> str:
        """Return "40 steps taken", and how many were left out and why, if any were."""
        text = f"{self.taken:,} steps taken"
        reasons = {"not finite": self.skipped, "overflow of float16": self.overflowed}
        told = ", ".join(f"{num:,} {reason}" for reason, num in reasons.items() if num)
        return f"{text}, {self.left_out:,} left out ({told})" if told else text

    def totals(self) -> dict[str, int]:
        """What a line of results says of the run so far."""
        return {"taken": self.taken, "skipped": self.skipped, "overflowed": self.overflowed}

    def state_dict(self) -> dict[str, int]:
        return asdict(self)

    def load_state_dict(self, content: dict[str, int]) -> None:
        for field in fields(self):
            setattr(self, field.name, int(content.get(field.name, 0)))
