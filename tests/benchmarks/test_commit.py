"""A number is tied to the state of the code that gave it."""

import shutil
import subprocess

import pytest

from fastclip.benchmarks.commit import commit_of, source_of

NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        command = ["git", "-C", str(tmp_path), *NOBODY, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "kernel.py").write_text("first")
    git("add", "kernel.py")
    git("commit", "-q", "-m", "first")
    return tmp_path, git


def test_a_tracked_file_has_a_commit_and_says_if_anything_changed(repository):
    folder, git = repository
    head = git("rev-parse", "HEAD")
    (folder / "notes").write_text("untracked files change nothing")
    assert commit_of(folder / "kernel.py") == head
    (folder / "kernel.py").write_text("second")
    assert commit_of(folder / "kernel.py") == f"{head}+changes"


def test_a_file_that_a_repository_only_surrounds_has_none(repository):
    """As an installation in the environment of somebody's own repository."""
    folder, _ = repository
    (folder / "site-packages").mkdir()
    installed = folder / "site-packages" / "kernel.py"
    installed.write_text("first")
    assert commit_of(installed) is None
    assert source_of(installed).startswith("in no repository, sha256 ")


def test_without_git_there_is_none(repository, monkeypatch):
    folder, _ = repository
    monkeypatch.setenv("PATH", "")
    assert commit_of(folder / "kernel.py") is None
