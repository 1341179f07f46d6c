"""Find out with which state of the source a measurement was taken."""

import hashlib
import subprocess
from pathlib import Path


def commit_of(path: Path) -> str | None:
    """Return the commit of the repository that tracks the file.

    Returns:
        40 hexadecimal digits, followed by "+changes" if tracked files differ from the commit; None
        if no repository tracks the file, as in an installation, or git is missing.

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
    """Return the commit of fastclip, or None for an installed package, which has a version."""
    return commit_of(Path(__file__))


def source_of(path: Path) -> str:
    """Return a text that identifies the state of a file: its commit and its digest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{commit_of(path) or 'in no repository'}, sha256 {digest[:12]}"


def _git(path: Path, *arguments: str) -> str | None:
    """Return what git prints in the file's folder; None if it fails or is missing."""
    command = ["git", "-C", str(path.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
