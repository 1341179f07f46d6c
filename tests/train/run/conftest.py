"""Runs hear SIGHUP and SIGINT, also where the tests were started so that both are ignored: with
`nohup`, or in the background of a script."""

import signal
from collections.abc import Iterator

import pytest

HEARD = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@pytest.fixture(autouse=True)
def signals_are_not_ignored() -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in HEARD.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
