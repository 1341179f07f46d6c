"""What settings are: fields of a frozen dataclass, each with a type, a default and its help.

A flag of `fastclip train`, a line of a YAML or JSON file and a field are one thing, so that what
there is to say of a setting stands once, beside its field:

    @dataclass(frozen=True)
    class BatchConfig(Settings):
        batch_size: int = setting(64, "The number of pairs that a rank encodes.", least=1)
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, get_type_hints

from fastclip.train.settings.types import typed

ABOUT = "about"  # where the metadata of a field has its `About`


@dataclass(frozen=True)
class About:
    """What is known of a setting beyond its type and its default.

    Attributes:
        help: a sentence or more, without the default.
        choices: the values that it may have; anything, if there are none.
        least: the least value that it may have, or None.
        of_number, of_text: what it makes of a number, or of a text, that was given in the place of
            its own type.
        aliases: other flags than the one of its name.
        metavar: what stands for a value in the help; by default it says the type.
    """

    help: str
    choices: Sequence[str] = ()
    least: int | None = None
    of_number: Callable[[float], Any] | None = None
    of_text: Callable[[str], Any] | None = None
    aliases: Sequence[str] = ()
    metavar: str | None = None


def setting(default: Any, help: str, **further: Any) -> Any:
    """A field of a class of settings.

    Args:
        further: fields of `About`.
    """
    return field(default=default, metadata={ABOUT: About(help, **further)})


def about(of: Field) -> About:
    return of.metadata[ABOUT]


@dataclass(frozen=True)
class Settings:
    """Settings that a part of a run reads. Parts are composed by inheritance, in `RunConfig`.

    Raises:
        ValueError: a value is of another type than its field, or out of its range.
    """

    def __post_init__(self) -> None:
        for of in fields(self):
            value = typed_setting(type(self), of.name, getattr(self, of.name))
            object.__setattr__(self, of.name, value)
            self._check(of, value)

    @classmethod
    def own_fields(cls) -> list[Field]:
        """The fields of this part, without those of the parts that it is composed of."""
        return [of for of in fields(cls) if of.name in cls.__annotations__]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _check(self, of: Field, value: Any) -> None:
        if value is None:
            return
        known = about(of)
        if known.choices:
            self._require(value in known.choices, of.name, f"one of {tuple(known.choices)}")
        if known.least is not None:
            self._require(value >= known.least, of.name, f"at least {known.least}")

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


def typed_setting(cls: type[Settings], name: str, value: Any) -> Any:
    """Return the value of a setting as its field keeps it.

    Raises:
        ValueError: it is of another type.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    known = about(cls.__dataclass_fields__[name])
    if is_number and known.of_number is not None:
        value = known.of_number(value)
    if isinstance(value, str | os.PathLike) and known.of_text is not None:
        value = known.of_text(os.fspath(value))
    return typed(name, value, hints_of(cls)[name])


@functools.cache
def hints_of(cls: type[Settings]) -> dict[str, Any]:
    """The types of the settings of a class, by their names."""
    return get_type_hints(cls)


def default_of(of: Field) -> Any:
    assert of.default is not MISSING, f"{of.name} has no default"
    return of.default
