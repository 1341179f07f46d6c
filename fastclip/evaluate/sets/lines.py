"""Split captions into lines: an image with five lines, as in COCO, becomes five pairs."""

from collections.abc import Iterator

from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import END, Contents, Entry, Part, Source

MOST_LINES = 1024  # of one caption


class EachLine(Source):
    """A source with a pair for each line of each caption of another source.

    Blank lines are skipped. A position is the other source's position times `MOST_LINES`, plus the
    number of the line.

    Args:
        pairs: a source that has all captions of an image in one text.
    """

    def __init__(self, pairs: Source) -> None:
        self._pairs = pairs

    def parts(self) -> list[Part]:
        return [
            Part(part.name, part.start * MOST_LINES, _times(part.stop))
            for part in self._pairs.parts()
        ]

    def skipped(self) -> dict[str, int]:
        return self._pairs.skipped()

    def contents(self) -> Contents:
        return [*self._pairs.contents(), ("captions", "a line each")]

    def files(self) -> Iterator[str]:
        return self._pairs.files()

    def read(self, part: Part, position: int | None = None) -> Iterator[Entry]:
        position = part.start if position is None else position
        if position == END:
            return
        start, first = divmod(position, MOST_LINES)
        own = next(own for own in self._pairs.parts() if own.name == part.name)
        for entry in self._pairs.read(own, start):
            found = _split(entry.load())
            for line in range(first, len(found)):
                here = entry.position * MOST_LINES + line
                behind = _times(entry.next_position) if line + 1 == len(found) else here + 1
                yield Entry(here, behind, lambda sample=found[line]: sample)
            first = 0


def _times(position: int) -> int:
    return END if position == END else position * MOST_LINES


def _split(found: Sample | BadSample) -> list[Sample | BadSample]:
    if isinstance(found, BadSample):
        return [found]
    lines = [line.strip() for line in found.caption.splitlines() if line.strip()]
    if len(lines) > MOST_LINES:
        return [BadSample(found.key, "too many captions", f"{len(lines):,} lines")]
    return [
        found._replace(key=f"{found.key}, line {number}", caption=line)
        for number, line in enumerate(lines, 1)
    ]
