"""The entries that the rows of a rectangle leave out, one block at a time."""

import torch
from torch import Tensor

from fastclip.backends.chunked.machine import Machine
from fastclip.rectangle import Rectangle

STRIP_ROWS = 128


class LeftOut:
    """The entries that an interval leaves out, including pairs within it; there may be none.

    Cost: for each entry two comparisons, of its column with both ends of its row's interval, a byte
    or two of memory, and a pass over the block. On a CPU, where values can be read, the block is
    cut into strips of STRIP_ROWS rows. Only the columns from the first to the last one that any row
    of the strip leaves out are compared: with rows and columns both in the order of ids, these are
    few more than the strip's rows.
    """

    def __init__(self, rectangle: Rectangle, machine: Machine) -> None:
        self.interval, self.can_look = rectangle.excluded, machine.multiprocessors == 0

    def fill(self, block: Tensor, chunk: slice, panel: slice, value: float) -> None:
        """Set the left-out entries of a block, with these rows and columns, to `value`."""
        if self.interval is None:
            return
        begin, end = (x[chunk, None] for x in self.interval)
        column = torch.arange(panel.start, panel.stop, dtype=begin.dtype, device=block.device)
        if not self.can_look:
            _fill(block, begin, end, column, value)
            return
        strips = (x.split(STRIP_ROWS) for x in (block, begin, end))
        for strip, first, last in zip(*strips, strict=True):
            some = _columns_left_out(first, last, panel)
            _fill(strip[:, some], first, last, column[some], value)


def _fill(block: Tensor, begin: Tensor, end: Tensor, column: Tensor, value: float) -> None:
    left_out = begin <= column
    left_out &= column < end
    block.masked_fill_(left_out, value)


def _columns_left_out(begin: Tensor, end: Tensor, panel: slice) -> slice:
    """Return the first to last column of the panel that any row leaves out, relative to it."""
    meets = (begin < end) & (begin < panel.stop) & (end > panel.start)
    if not meets.any():
        return slice(0, 0)
    first, last = begin[meets].min().item(), end[meets].max().item()
    return slice(max(first, panel.start) - panel.start, min(last, panel.stop) - panel.start)
