"""Find the providers that names, patterns and places of functions stand for; check devices."""

import fnmatch
from collections.abc import Collection
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.own import is_own, own_provider
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import providers


class NoMatch(ValueError):
    """Raised if a pattern matches no known name; the message has the pattern and the names."""


def matched(kind: str, patterns: Collection[str], objective: str) -> list[Provider]:
    """Return the providers that match, in their own order, then the user's functions.

    Args:
        kind: what the patterns are called, for the message.

    Raises:
        ValueError: a pattern matches no provider, or a function does not exist.
    """
    own = list(dict.fromkeys(x for x in patterns if is_own(x)))
    known = {provider.name: provider for provider in providers(objective)}
    names = matched_names(kind, [x for x in patterns if not is_own(x)], known)
    return [*(known[name] for name in names), *(own_provider(objective, x) for x in own)]


def matched_names(kind: str, patterns: Collection[str], known: Collection[str]) -> list[str]:
    """Return the known names that a pattern matches, in their own order.

    Raises:
        NoMatch: a pattern matches none.
    """
    matches = {x: [name for name in known if fnmatch.fnmatch(name, x)] for x in patterns}
    if unknown := [x for x, names in matches.items() if not names]:
        raise NoMatch(f"no {kind} matches {', '.join(unknown)}; there are {', '.join(known)}")
    found = set().union(*matches.values())
    return [x for x in known if x in found]


def objection_to_device(device: str) -> str | None:
    """Return why nothing can run on this device, "cpu" or "cuda", or None if it can."""
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device on this machine"
    return None


def facts_of(device: str) -> dict[str, Any]:
    """Return the facts of the host, and of its GPU if `device` is "cuda"."""
    return host.facts() | (host.gpu_facts() if device == "cuda" else {})
