"""The account of bad samples: how many there are, for which reasons, and the first few of each."""

from dataclasses import dataclass, field

from fastclip.data.sources.samples import BadSample
from fastclip.printable import printable, printable_lines

MAX_EXAMPLES = 5  # of each reason
LOST_SHARDS = ("missing shard", "unreadable shard")  # reasons of many bad samples at once
MAX_SHOWN = 500  # characters of an example


class DataError(RuntimeError):
    """The data cannot be used: too much of it is bad, or a worker that read it has died.

    Args:
        text: the message; characters in it that cannot be printed are shown as escapes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable_lines(text))


@dataclass
class BadSamples:
    """Counts the samples that were read, the bad ones among them, and captions that were cut.

    Attributes:
        num_seen: samples read, good and bad.
        counts: bad samples by reason.
        examples: the first few bad samples of each reason: "key" or "key: detail".
        skipped: files that were read but belong to no sample, counted by suffix.
        num_cut: good samples whose caption was cut, because it has more tokens than fit.
    """

    num_seen: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    num_cut: int = 0

    @property
    def num_bad(self) -> int:
        return sum(self.counts.values())

    @property
    def num_in_lost_shards(self) -> int:
        return sum(self.counts.get(reason, 0) for reason in LOST_SHARDS)

    @property
    def rate(self) -> float:
        """The fraction of the samples read that are bad; 0 before the first is read."""
        return self.num_bad / self.num_seen if self.num_seen else 0.0

    def add(self, bad: BadSample) -> None:
        """Count a bad sample; the caller adds it to `num_seen`.

        If `bad.lost` is 0, it is a file that belongs to no sample and is counted in `skipped`.
        Characters of keys, details and suffixes that cannot be printed are stored as escapes.
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
        """Return one account with the counts of both."""
        examples = {reason: list(found) for reason, found in self.examples.items()}
        for reason in other.counts:
            found = examples.setdefault(reason, [])
            found += other.examples[reason][: MAX_EXAMPLES - len(found)]
        return BadSamples(
            self.num_seen + other.num_seen, _sum(self.counts, other.counts), examples,
            _sum(self.skipped, other.skipped), self.num_cut + other.num_cut,
        )  # fmt: skip

    def summary(self) -> str:
        """Return one line for a log: "3 of 1200 samples are bad: 2 empty caption, 1 no image".

        If any files belong to no sample, or captions were cut, the line also counts these.
        """
        text = f"{self.num_bad} of {self.num_seen} samples are bad"
        if self.counts:
            text += f": {listed(self.counts)}"
        if self.skipped:
            text += f"; {skipped_summary(self.skipped)}"
        if self.num_cut:
            captions = "1 caption was" if self.num_cut == 1 else f"{self.num_cut} captions were"
            text += f"; {captions} cut to the tokenizer's context"
        return text

    def report(self) -> str:
        """Return the summary and, on the lines below it, the examples."""
        lines = [
            f"  {reason}: {example}" for reason in self.counts for example in self.examples[reason]
        ]
        return "\n".join([self.summary(), *lines])

    def to_dict(self) -> dict:
        """Return plain values, for a checkpoint or a line of results."""
        examples = {reason: list(found) for reason, found in self.examples.items()}
        return {
            "num_seen": self.num_seen, "counts": dict(self.counts), "examples": examples,
            "skipped": dict(self.skipped), "num_cut": self.num_cut,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict) -> "BadSamples":
        return cls().merge(cls(**values))


def skipped_summary(skipped: dict[str, int]) -> str:
    """Return "5 files belong to no sample: 3 .npy, 2 .json"."""
    num = sum(skipped.values())
    files = "1 file belongs" if num == 1 else f"{num} files belong"
    return f"{files} to no sample: {listed(skipped)}"


def listed(counts: dict[str, int]) -> str:
    """Return counts as text, the largest first: "2 empty caption, 1 no image"."""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in most_first)


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return one | {name: one.get(name, 0) + count for name, count in other.items()}
