"""Which state of a source a number was taken with."""

import hashlib
import subprocess
from pathlib import Path


def commit_of(path: Path) -> str | None:
    """The commit of the repository that tracks the file, with "+changes" if tracked files differ.

    Returns:
        40 hexadecimal digits, with or without "+changes"; None where no repository tracks the
        file, as in an installation, or git is not there.

    Example:
        >>> commit_of(Path("no/such/file")) is None
        True
    """
    path = path.resolve()
    if _git(path, "ls-files", "--error-unmatch", "--", path.name) is None:
        return None
    commit = _git(path, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(path, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+changes" if changed else "")


def own_commit() -> str | None:
    """That of fastclip; None of an installed package, whose version says it."""
    return commit_of(Path(__file__))


def source_of(path: Path) -> str:
    """What tells two states of a file apart: its commit, or its digest where nothing tracks it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{commit_of(path) or 'in no repository'}, sha256 {digest[:12]}"


def _git(path: Path, *arguments: str) -> str | None:
    """What git prints of the file's folder; None if it fails or is missing."""
    command = ["git", "-C", str(path.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
