"""Signals that end a run: heard in a wait, obeyed by all ranks, obeyed at once when repeated."""

import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from fastclip.train.run import stop_signals
from fastclip.train.run.stop_signals import SIGNALS, StopSignals, ToldToStop
from tests.support.runs import finish, server

ALONE = SimpleNamespace(is_first=True, any=lambda flags: list(flags))


def tell_later(number):
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()


@pytest.fixture
def endless():
    """A read that nobody answers, as of a pipe or a disk that is gone."""
    ours, theirs = os.pipe()
    yield lambda: os.read(ours, 1)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("number", SIGNALS)
def test_wait_is_cut_off_by_each_of_the_signals(number, endless, capfd):
    before = signal.getsignal(number)
    with StopSignals(ALONE) as signals:
        tell_later(number)
        with pytest.raises(ToldToStop) as told:
            signals.obey(endless)
    assert told.value.status == 128 + number
    assert signal.getsignal(number) == before
    assert f"{number.name}: the run saves and stops; a second SIGINT" in capfd.readouterr().err


def test_cut_off_passes_through_who_catches_every_exception(endless):
    def tolerant():
        while True:
            try:
                endless()
            except Exception:
                pass

    with StopSignals(ALONE) as signals, pytest.raises(ToldToStop):
        tell_later(signal.SIGTERM)
        signals.obey(tolerant)


def test_signal_outside_a_wait_is_obeyed_before_the_next():
    begun = []
    with StopSignals(ALONE) as signals:
        assert signals.obey(lambda: 3) == 3
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(ToldToStop) as told:
            signals.obey(lambda: begun.append(1))
    assert told.value.status == 129 and not begun


def test_what_another_rank_has_heard_ends_this_one_when_its_own_work_is_done():
    heard_there = [number == signal.SIGUSR1 for number in SIGNALS]
    processes = SimpleNamespace(
        is_first=False, any=lambda flags: [*heard_there, *flags[len(SIGNALS) :]]
    )
    done = []
    with StopSignals(processes) as signals, pytest.raises(ToldToStop) as told:
        signals.obey(lambda: done.append(1))
    assert done == [1] and told.value.status == 128 + signal.SIGUSR1


def test_flags_travel_with_the_signals():
    with StopSignals(ALONE) as signals:
        assert signals.obey_and_exchange(lambda: "data", [True, False]) == ("data", [True, False])


def test_signal_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(ALONE) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.obey(lambda: 3) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def never_obey(connection, error_file):
    """A main thread that looks at no signal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_signals.SECONDS_OF_ONE = 0.1
    sys.stderr = error_file.open("w")
    with StopSignals(ALONE):
        connection.send("ready")
        threading.Event().wait()


def test_second_sigint_ends_the_process_at_once_and_a_double_one_is_one(tmp_path):
    processes = server()
    ours, theirs = processes.Pipe()
    process = processes.Process(target=never_obey, args=(theirs, tmp_path / "error"))
    process.start()
    ours.recv()
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
    process.join(0.3)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 130
    told = (tmp_path / "error").read_text()
    assert "a second SIGINT has ended the run at once: the steps since its last" in told
