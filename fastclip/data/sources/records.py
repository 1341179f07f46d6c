"""Records of a csv file: where each record begins and ends, and what its fields are.

A record is a line, unless a quoted field runs over several lines. In a file that keeps to RFC 4180
from its beginning to its end (`is_well_quoted`), such a field ends with its closing quote, whatever
the lines in between look like. Any other file was written without quoting, or is damaged: a quote
that is never closed must not swallow the rows after it. There a field runs over several lines only
if it is closed properly and no line in between is plainly a row of its own. Quotes inside an
unquoted field are literal, and so is what follows a closing quote: `"yes" he said` is read as the
csv module reads it.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

MAX_RECORD_BYTES = 2**20
MAX_RECORD_LINES = 2**12
QUOTE = '"'


class Fields(NamedTuple):
    values: list[str]
    is_open: bool  # the last field begins with a quote that is not closed
    is_strict: bool  # every closing quote ends its field
    has_stray: bool = False  # a field without quotes around it has one in it


# See `split_records`.
EndsBefore = Callable[[list[str], list[str], Fields], bool]


class Record(NamedTuple):
    start: int  # offset in the file, in bytes
    end: int
    raw: bytes  # without the end of the line; MAX_RECORD_BYTES or more if it is too long


def parse(text: str, separator: str) -> Fields:
    """Split one record, without its end of line, into fields."""
    if QUOTE not in text:
        return Fields(text.split(separator), False, True)
    values, start, is_strict, has_stray = [], 0, True, False
    while True:
        quoted = ""
        if text.startswith(QUOTE, start):
            close = _closing_quote(text, start + 1)
            if close < 0:
                return Fields([*values, text[start + 1 :]], True, is_strict, has_stray)
            quoted = text[start + 1 : close].replace(QUOTE * 2, QUOTE)
            start = close + 1
            is_strict &= start == len(text) or text.startswith(separator, start)
        stop = text.find(separator, start)
        has_stray |= QUOTE in text[start : None if stop < 0 else stop]
        if stop < 0:
            return Fields([*values, quoted + text[start:]], False, is_strict, has_stray)
        values.append(quoted + text[start:stop])
        start = stop + len(separator)


def is_well_quoted(file: BinaryIO, start: int, separator: str, num_columns: int) -> bool:
    """Return whether the file keeps to RFC 4180 from offset `start` on, where a record begins.

    It does if every field that begins with a quote ends with one, no other field has a quote in it,
    and records that run over several lines have `num_columns` fields and are not too long. Bytes
    that are not UTF-8, and lines with another number of fields, do not matter here.
    """
    file.seek(start)
    is_open, num_fields, size, num_lines = False, 0, 0, 0
    while line := file.readline(MAX_RECORD_BYTES):
        if not is_open:
            if b'"' not in line:
                continue
            num_fields, size, num_lines = 1, 0, 0
        goes_on = is_open
        fields = _fields(b'"' + line if goes_on else line, separator)
        num_fields, size = num_fields + len(fields.values) - 1, size + len(line)
        num_lines += 1
        if not fields.is_strict or fields.has_stray or _is_too_long(size, num_lines):
            return False
        is_open = fields.is_open
        if goes_on and not is_open and num_fields != num_columns:
            return False
    return not is_open


def split_records(
    file: BinaryIO, start: int, separator: str, ends_before: EndsBefore
) -> Iterator[Record]:
    """Yield the records of `file` from offset `start`, where a record begins; skip empty lines.

    Args:
        ends_before: says whether a record with an open quote ends before the next line. It gets the
            fields of the record's first line with that quote taken literally, the fields of the
            next line alone, and the fields of the record if it includes the next line; for a field
            over several lines, the record has its last line.
    """
    file.seek(start)
    offset = start
    while line := file.readline(MAX_RECORD_BYTES):
        end = offset + len(line)
        if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
            end += _skip_line(file)
        elif b'"' in line:
            more = _continuation(file, line, separator, ends_before)
            line, end = line + more, end + len(more)
            file.seek(end)
        raw = line.rstrip(b"\r\n")
        if raw.strip():
            yield Record(offset, end, raw)
        offset = end


def _closing_quote(text: str, start: int) -> int:
    """Return the index of the first quote that is not doubled, or -1 if there is none."""
    close = text.find(QUOTE, start)
    while close >= 0 and text.startswith(QUOTE, close + 1):
        close = text.find(QUOTE, close + 2)
    return close


def _continuation(file: BinaryIO, line: bytes, separator: str, ends_before: EndsBefore) -> bytes:
    """Return the further lines of the record that `line` begins; empty if it is one line."""
    record, size, more = _fields(line, separator), len(line), []
    literal = [*record.values[:-1], *(QUOTE + record.values[-1]).split(separator)]
    while record.is_open and record.is_strict and not _is_too_long(size, 1 + len(more)):
        following = file.readline(MAX_RECORD_BYTES)
        # A line inside an open field is parsed as if the field began there: none is parsed twice.
        rest = _fields(b'"' + following, separator)
        record.values[-1:] = rest.values
        record = Fields(record.values, rest.is_open, rest.is_strict)
        if not following or ends_before(literal, _fields(following, separator).values, record):
            return b""
        size += len(following)
        more.append(following)
    return b"".join(more) if record.is_strict and not record.is_open else b""


def _is_too_long(size: int, num_lines: int) -> bool:
    return size >= MAX_RECORD_BYTES or num_lines >= MAX_RECORD_LINES


def _fields(raw: bytes, separator: str) -> Fields:
    return parse(raw.rstrip(b"\r\n").decode(errors="replace"), separator)


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of the line; return the number of bytes."""
    skipped = 0
    while piece := file.readline(MAX_RECORD_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
