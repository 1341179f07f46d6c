"""The account of bad samples: how many of how many, why, and the first few of them."""

from dataclasses import dataclass, field

from fastclip.data.sources.samples import BadSample
from fastclip.printable import printable, printable_lines

MAX_EXAMPLES = 5  # of each reason
LOST_SHARDS = ("missing shard", "unreadable shard")  # reasons of many bad samples at once
MAX_SHOWN = 500  # characters of an example


class DataError(RuntimeError):
    """The data cannot be trained on: too much of it is bad, or a worker that read it has died.

    Args:
        text: whatever names of the data it has, they are printed with escapes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable_lines(text))


@dataclass
class BadSamples:
    """Attributes:
    num_seen: samples read, good and bad.
    counts: bad samples by reason.
    examples: by reason, the first few: "key" or "key: detail".
    skipped: files that were read and are no part of a sample, by suffix.
    """

    num_seen: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def num_bad(self) -> int:
        return sum(self.counts.values())

    @property
    def num_in_lost_shards(self) -> int:
        return sum(self.counts.get(reason, 0) for reason in LOST_SHARDS)

    @property
    def rate(self) -> float:
        """Bad samples among those read, 0 before the first."""
        return self.num_bad / self.num_seen if self.num_seen else 0.0

    def add(self, bad: BadSample) -> None:
        """Count a bad sample; that it was read is to be counted in `num_seen`.

        One of no lost sample is a file that is no part of one. Of keys, details and suffixes, which
        are somebody's, the account has what can be printed.
        """
        reason = printable(bad.reason, MAX_SHOWN)
        if bad.lost == 0:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return
        self.counts[reason] = self.counts.get(reason, 0) + bad.lost
        examples = self.examples.setdefault(reason, [])
        if len(examples) < MAX_EXAMPLES:
            shown = f"{bad.key}: {bad.detail}" if bad.detail else bad.key
            examples.append(printable(shown, MAX_SHOWN))

    def merge(self, other: "BadSamples") -> "BadSamples":
        """Return the account of both."""
        examples = {reason: list(found) for reason, found in self.examples.items()}
        for reason in other.counts:
            found = examples.setdefault(reason, [])
            found += other.examples[reason][: MAX_EXAMPLES - len(found)]
        return BadSamples(
            self.num_seen + other.num_seen, _sum(self.counts, other.counts), examples,
            _sum(self.skipped, other.skipped),
        )  # fmt: skip

    def summary(self) -> str:
        """Return one line for a log: "3 of 1200 samples are bad: 2 empty caption, 1 no image".

        It goes on with files that are no part of a sample, where there are any.
        """
        text = f"{self.num_bad} of {self.num_seen} samples are bad"
        if self.counts:
            text += f": {listed(self.counts)}"
        return f"{text}; {skipped_summary(self.skipped)}" if self.skipped else text

    def report(self) -> str:
        """Return the summary and, below it, the examples."""
        lines = [
            f"  {reason}: {example}" for reason in self.counts for example in self.examples[reason]
        ]
        return "\n".join([self.summary(), *lines])

    def to_dict(self) -> dict:
        """Return plain values, for a checkpoint or a line of results."""
        examples = {reason: list(found) for reason, found in self.examples.items()}
        return {
            "num_seen": self.num_seen, "counts": dict(self.counts), "examples": examples,
            "skipped": dict(self.skipped),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict) -> "BadSamples":
        return cls().merge(cls(**values))


def skipped_summary(skipped: dict[str, int]) -> str:
    """Return "5 files are no part of a sample: 3 .npy, 2 .json"."""
    return f"{sum(skipped.values())} files are no part of a sample: {listed(skipped)}"


def listed(counts: dict[str, int]) -> str:
    """Return "2 empty caption, 1 no image", most first."""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in most_first)


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return one | {name: one.get(name, 0) + count for name, count in other.items()}
