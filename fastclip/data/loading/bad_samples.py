"""The account of bad samples: how many of how many, why, and the first few of them."""

from dataclasses import dataclass, field

from fastclip.data.sources.samples import BadSample

MAX_EXAMPLES = 5  # of each reason


class DataError(RuntimeError):
    """The data cannot be trained on: too much of it is bad, or a worker that read it has died."""


@dataclass
class BadSamples:
    """Attributes:
    num_seen: samples read, good and bad.
    counts: bad samples by reason.
    examples: by reason, the first few: "key" or "key: detail".
    """

    num_seen: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_bad(self) -> int:
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Bad samples among those read, 0 before the first."""
        return self.num_bad / self.num_seen if self.num_seen else 0.0

    def add(self, bad: BadSample) -> None:
        """Count a bad sample; that it was read is to be counted in `num_seen`."""
        self.counts[bad.reason] = self.counts.get(bad.reason, 0) + bad.lost
        examples = self.examples.setdefault(bad.reason, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(f"{bad.key}: {bad.detail}" if bad.detail else bad.key)

    def merge(self, other: "BadSamples") -> "BadSamples":
        """Return the account of both."""
        counts = dict(self.counts)
        examples = {reason: list(found) for reason, found in self.examples.items()}
        for reason, count in other.counts.items():
            counts[reason] = counts.get(reason, 0) + count
            found = examples.setdefault(reason, [])
            found += other.examples[reason][: MAX_EXAMPLES - len(found)]
        return BadSamples(self.num_seen + other.num_seen, counts, examples)

    def summary(self) -> str:
        """Return one line for a log: "3 of 1200 samples are bad: 2 empty caption, 1 no image"."""
        reasons = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons)
        return f"{self.num_bad} of {self.num_seen} samples are bad" + (listed and f": {listed}")

    def report(self) -> str:
        """Return the summary and, below it, the examples."""
        lines = [
            f"  {reason}: {example}" for reason in self.counts for example in self.examples[reason]
        ]
        return "\n".join([self.summary(), *lines])

    def to_dict(self) -> dict:
        """Return plain values, for a checkpoint or a line of results."""
        examples = {reason: list(found) for reason, found in self.examples.items()}
        return {"num_seen": self.num_seen, "counts": dict(self.counts), "examples": examples}

    @classmethod
    def from_dict(cls, values: dict) -> "BadSamples":
        return cls().merge(cls(**values))
