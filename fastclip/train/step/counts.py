"""Counts the steps of a run that were taken and left out; a checkpoint has these numbers."""

from dataclasses import asdict, dataclass, fields


@dataclass
class StepCounts:
    """The numbers of steps that were taken, skipped and overflowed; every step is one of these.

    Attributes:
        taken: steps that changed the weights.
        skipped: steps with a loss or a gradient that is not finite.
        overflowed: steps whose gradient, scaled for float16, is not finite; the scale was halved.
        skipped_in_a_row: the skipped steps since the last step that was taken.
        taken_in_epoch: the taken steps of the current epoch.
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
        """Require that at least one step was taken.

        Args:
            num_taken: the number of steps of `what` that were taken.
            what: "the run" or an epoch, for the message.

        Raises:
            FloatingPointError: `num_taken` is 0.
        """
        if num_taken == 0:
            raise FloatingPointError(
                f"no step of {what} was taken (in the whole run: {self.summary()}): lower the "
                "learning rate or, if float16 overflows, use --precision amp_bf16; --resume latest "
                "goes on with the loss scale that was found so far"
            )

    def summary(self) -> str:
        """Return "40 steps taken", and how many were left out and why, if any were."""
        text = f"{self.taken:,} steps taken"
        reasons = {"not finite": self.skipped, "overflow of float16": self.overflowed}
        told = ", ".join(f"{num:,} {reason}" for reason, num in reasons.items() if num)
        return f"{text}, {self.left_out:,} left out ({told})" if told else text

    def totals(self) -> dict[str, int]:
        """Return the numbers of the run so far for a line of results.jsonl."""
        return {"taken": self.taken, "skipped": self.skipped, "overflowed": self.overflowed}

    def state_dict(self) -> dict[str, int]:
        return asdict(self)

    def load_state_dict(self, content: dict[str, int]) -> None:
        for field in fields(self):
            setattr(self, field.name, int(content.get(field.name, 0)))
