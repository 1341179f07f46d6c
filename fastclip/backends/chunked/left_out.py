"""What the rows of a rectangle leave out, in a block at a time."""

import torch
from torch import Tensor

from fastclip.backends.chunked.machine import Machine
from fastclip.rectangle import Rectangle

STRIP_ROWS = 128


class LeftOut:
    """The entries that an interval leaves out, pairs among them; there may be none.

    Cost: a comparison of an entry's column with both ends of its row's interval, a byte or two of
    memory, and a pass over the block. Where values can be looked at, the block is cut into strips
    of STRIP_ROWS rows, and of each only the columns are compared from the first to the last one
    that any of its rows leaves out: with rows and columns both in the order of ids, these are
    little more than the strip has rows.
    """

    def __init__(self, rectangle: Rectangle, machine: Machine) -> None:
        self.interval, self.can_look = rectangle.excluded, machine.multiprocessors == 0

    def fill(self, block: Tensor, chunk: slice, panel: slice, value: float) -> None:
        """Set those entries of a block, of these rows and columns of the rectangle, to `value`."""
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
    """From the first to the last column that any row leaves out, counted from the panel's first."""
    meets = (begin < end) & (begin < panel.stop) & (end > panel.start)
    if not meets.any():
        return slice(0, 0)
    first, last = begin[meets].min().item(), end[meets].max().item()
    return slice(max(first, panel.start) - panel.start, min(last, panel.stop) - panel.start)
