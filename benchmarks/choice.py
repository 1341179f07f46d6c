"""Who is compared, and where: names, patterns and places of functions; devices."""

import fnmatch
from collections.abc import Collection
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.own import is_own, own_provider
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import providers


class NoMatch(ValueError):
    """A pattern that matches no known name; the message has both."""


def matched(kind: str, patterns: Collection[str], objective: str) -> list[Provider]:
    """Providers by names and patterns in their own order, then functions of one's own.

    Args:
        kind: what the patterns are called, for the message.

    Raises:
        ValueError: a pattern matches none, or there is no such function.
    """
    own = list(dict.fromkeys(x for x in patterns if is_own(x)))
    known = {provider.name: provider for provider in providers(objective)}
    names = matched_names(kind, [x for x in patterns if not is_own(x)], known)
    return [*(known[name] for name in names), *(own_provider(objective, x) for x in own)]


def matched_names(kind: str, patterns: Collection[str], known: Collection[str]) -> list[str]:
    """The known names that a pattern matches, in their own order; each must match some.

    Raises:
        NoMatch: one matches none.
    """
    matches = {x: [name for name in known if fnmatch.fnmatch(name, x)] for x in patterns}
    if unknown := [x for x, names in matches.items() if not names]:
        raise NoMatch(f"no {kind} matches {', '.join(unknown)}; there are {', '.join(known)}")
    found = set().union(*matches.values())
    return [x for x in known if x in found]


def objection_to_device(device: str) -> str | None:
    """Why nothing can run on "cpu" or "cuda"; None if it can."""
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device on this machine"
    return None


def facts_of(device: str) -> dict[str, Any]:
    """Those of the host, and of its GPU if that is where it runs."""
    return host.facts() | (host.gpu_facts() if device == "cuda" else {})
