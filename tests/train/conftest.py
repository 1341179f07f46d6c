"""Runs of these tests do not count what a step takes; tests/train/planning has that."""

import pytest

from tests.support.runs import say_nothing


@pytest.fixture(autouse=True)
def runs_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastclip.commands.train.say_what_it_takes", say_nothing)
