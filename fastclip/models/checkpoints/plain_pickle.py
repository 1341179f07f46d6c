"""Reading a pickle as data: nothing that the pickle names is imported, called or changed.

A pickle is a program for a small stack machine, which makes containers and calls functions by name.
The machine in this module makes containers itself. For a call it looks the name up in `makers`, a
table of fastclip's own functions that return plain values, and refuses a name that is not there. A
class of a TorchScript program, under `__torch__`, becomes a `ScriptObject`, a bag of attributes.

Every step takes time and memory in proportion to its bytes, because values are never copied. So a
file of a kilobyte cannot take more than a few kilobytes.

Source: the opcodes in `pickletools` of Python; torch/csrc/jit/docs/serialization.md in PyTorch.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from mmap import mmap
from typing import Any, NamedTuple

from fastclip.data.quoting import named, quoted
from fastclip.models.checkpoints.errors import UnsafeCheckpointError

SCRIPT_MODULE = "__torch__"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
CONTAINERS = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
# Opcodes whose argument is the value.
VALUES = frozenset(
    """BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8""".split()
)
PUTS = ("BINPUT", "LONG_BINPUT")
GETS = ("BINGET", "LONG_BINGET")
WITHOUT_EFFECT = ("PROTO", "FRAME")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


class Name(NamedTuple):
    """A name of a function or class that a pickle refers to."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Unread(NamedTuple):
    """Stands for a value that was not made; `maker` is the name that would have been called."""

    maker: str


class ScriptObject:
    """The attributes of an object of a TorchScript program, without its methods."""

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        self.attributes: dict[Any, Any] = {}


Makers = Mapping[str, Callable[..., Any] | None]


def read_plain_pickle(file: BytesIO | mmap, makers: Makers, find: Callable[[Any], Any]) -> Any:
    """Return the value of the pickle at the current position of a file, and move behind it.

    Args:
        file: a memory map or a `BytesIO`, which never read more than there is.
        makers: by full name, the function that makes the result of a call; None for known names
            whose results are not needed, which become an `Unread`.
        find: maps a reference to something outside of the pickle to its value.

    Raises:
        UnsafeCheckpointError: the pickle names something that is not in `makers`, or has a step
            that no file of weights has.
        Exception: of any type: the pickle is damaged.
    """
    machine = _Machine(makers, find)
    for opcode, argument, _ in pickletools.genops(file):
        machine.step(opcode.name, argument)
    (value,) = machine.stack
    return value


class _Machine:
    def __init__(self, makers: Makers, find: Callable[[Any], Any]) -> None:
        self.makers = makers
        self.find = find
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in CONTAINERS:
            self.stack.append(CONTAINERS[name]())
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name in TUPLES:
            self.stack[-TUPLES[name] :] = [tuple(self.stack[-TUPLES[name] :])]
        elif name not in WITHOUT_EFFECT:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise UnsafeCheckpointError(f"its pickle has the step {name}")
            if argument is None:
                step()
            else:
                step(argument)

    def _stop(self) -> None:
        pass

    def _mark(self) -> None:
        self.stack.append(MARK)

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    _additems = _appends

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._since_mark())

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._refer(module, name)

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._refer(module, name)

    def _reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        self.stack.append(self._made(name, arguments))

    def _newobj(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        is_script = isinstance(name, Name) and _is_script(name.module) and arguments == ()
        self.stack.append(ScriptObject() if is_script else self._made(name, arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ScriptObject) and isinstance(state, dict):
            target.attributes = state
        elif not isinstance(target, (dict, Unread)):  # their attributes are not needed
            raise UnsafeCheckpointError(f"its pickle would change {quoted(target)}")

    def _binpersid(self) -> None:
        self.stack.append(self.find(self.stack.pop()))

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"found a {type(self.stack[-1]).__name__}, expected a {kind.__name__}")
        return self.stack[-1]

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def _set(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_hashable(key)] = value

    def _refer(self, module: Any, name: Any) -> None:
        found = Name(module, name)
        if not _is_script(module) and str(found) not in self.makers:
            raise UnsafeCheckpointError(f"its pickle names {named(str(found))}")
        self.stack.append(found)

    def _made(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise UnsafeCheckpointError(f"its pickle would call {quoted(name)}")
        if _is_script(name.module):
            return Unread(str(name))
        make = self.makers[str(name)]
        return Unread(str(name)) if make is None else make(*arguments)


def _is_script(module: str) -> bool:
    return module.split(".")[0] == SCRIPT_MODULE


def _hashable(key: Any) -> Any:
    """Return `key` if it is plain: hashing a deeply nested key could recurse without end."""
    parts: Iterable[Any] = key if type(key) is tuple else (key,)
    for part in parts:
        if not isinstance(part, (str, bytes, int, float, type(None))):
            raise TypeError(f"a key of a dict is a {type(part).__name__}")
    return key
