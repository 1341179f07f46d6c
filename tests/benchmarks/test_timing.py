"""Floor arithmetic and the order of turns, on a clock that the tests move."""

from types import SimpleNamespace

import pytest

from fastclip.benchmarks import timing


class Machine:
    """Stands for the clock and for what takes time on it: `speed` slows everything alike."""

    def __init__(self):
        self.now, self.speed, self.log = 0.0, 1.0, []

    def work(self, name, seconds):
        def call():
            self.log.append(name)
            self.now += seconds / self.speed

        return call


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()

    class Matmul:
        flops = 1000

        def __init__(self, N, D, device):
            self.call = machine.work("matmul", 1.0)

        def __call__(self):
            self.call()

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: machine.now))
    monkeypatch.setattr(timing, "Matmul", Matmul)
    return machine


def test_floor_flops_are_four_products():
    assert timing.floor_flops(N=10, D=3) == 4 * (2 * 10 * 10 * 3)


def test_summarize_takes_medians_of_ratios_within_rounds():
    # The machine is four times slower in the second round, and the provider with it.
    measured = timing.summarize([1.0, 4.0, 1.5], [100.0, 25.0, 100.0], floor=50)
    assert measured.seconds == 1.5
    assert measured.times_floor == pytest.approx(2.0)
    assert measured.matmul_flops_per_second == 100.0
    assert (measured.seconds_low, measured.seconds_high) == (1.25, 2.75)


def test_matmul_counts_its_flops():
    product = timing.Matmul(N=100, D=8)
    product()
    assert product.out.shape == (1024, 1024)
    assert product.flops == 2 * 1024 * 1024 * 8


def test_time_together_ratio_is_unmoved_by_a_machine_that_slows(machine):
    def slowing():
        machine.speed *= 0.8
        machine.work("slows", 0.1)()

    calls = {"slows the machine": slowing, "b": machine.work("b", 3.0)}
    measured = timing.time_together(calls, N=5, D=5, rounds=5, budget_seconds=0)["b"]
    floor_seconds = timing.floor_flops(5, 5) / 1000  # on a machine at speed 1
    assert measured.times_floor == pytest.approx(3.0 / floor_seconds, rel=0.25)
    assert measured.seconds > 2 * 3.0


def test_time_together_interleaves_and_rotates(machine):
    calls = {name: machine.work(name, 2.0) for name in "ab"}
    timing.time_together(calls, N=5, D=5, rounds=2, budget_seconds=0)
    turns = "".join(name[0] for name in machine.log[-8:])
    assert turns == "mambmbma"


def test_time_together_measures_a_slow_call_once(machine):
    calls = {"slow": machine.work("slow", 50.0), "fast": machine.work("fast", 1.0)}
    measured = timing.time_together(calls, N=5, D=5, rounds=4, limit_seconds=30, budget_seconds=0)
    assert (measured["slow"].seconds, measured["slow"].rounds) == (50.0, 1)
    assert machine.log.count("slow") == 1
    assert measured["fast"].rounds == 4


def test_time_together_forgives_a_first_call_that_compiles(machine):
    durations = iter([50.0] + [1.0] * 10)

    def compiles_first():
        machine.now += next(durations)

    measured = timing.time_together(
        {"compiled": compiles_first}, N=5, D=5, rounds=3, budget_seconds=0,
        slow_first_call=lambda name: name == "compiled",
    )  # fmt: skip
    assert (measured["compiled"].seconds, measured["compiled"].rounds) == (1.0, 3)


def test_time_together_goes_on_until_the_budget_is_spent(machine):
    calls = {"a": machine.work("a", 1.0)}
    measured = timing.time_together(calls, N=5, D=5, rounds=2, budget_seconds=20.5)
    assert measured["a"].rounds == 11  # two seconds each, with the matmul


@pytest.mark.parametrize("good_calls", [0, 3])
def test_time_together_returns_the_error_of_a_call_and_goes_on(machine, good_calls):
    remaining = iter(range(good_calls))

    def fails():
        machine.now += 1.0
        if next(remaining, None) is None:
            raise RuntimeError("out of luck")

    calls = {"fails": fails, "works": machine.work("works", 1.0)}
    measured = timing.time_together(calls, N=5, D=5, rounds=4, budget_seconds=0)
    assert str(measured["fails"]) == "out of luck"
    assert measured["works"].rounds == 4


def test_short_calls_are_repeated_within_a_turn(machine):
    calls = {"short": machine.work("short", timing.TURN_SECONDS / 8)}
    timing.time_together(calls, N=5, D=5, rounds=1, budget_seconds=0)
    assert machine.log.count("short") == 2 + 8  # warm-up, and one turn


def test_median_ratio_is_formed_within_rounds():
    assert timing.median_ratio([1.0, 20.0, 3.0], [2.0, 40.0, 4.0]) == 0.5


def test_what_prepares_a_call_is_not_timed(machine):
    class Backward:
        prepare = staticmethod(machine.work("prepare", 5.0))
        __call__ = staticmethod(machine.work("backward", 1.0))

    measured = timing.time_together({"x": Backward()}, N=5, D=5, rounds=2, budget_seconds=0)["x"]
    assert measured.seconds == 1.0
    log = [name for name in machine.log if name != "matmul"]
    assert log == ["prepare", "backward"] * 4  # two of them warm up


def test_the_floor_is_that_of_the_products_of_a_call(machine):
    calls = {name: machine.work(name, 2.0) for name in ("forward", "step")}
    measured = timing.time_together(
        calls, N=5, D=5, rounds=1, budget_seconds=0, products=lambda name: 1 + 3 * (name == "step")
    )
    assert measured["forward"].times_floor == pytest.approx(4 * measured["step"].times_floor)
    floor = timing.floor_flops(5, 5, 1)
    assert measured["forward"].ratios(floor) == pytest.approx([measured["forward"].times_floor])


def test_samples_are_those_of_each_round(machine):
    seconds = iter([1.0, 1.0, 2.0, 3.0, 7.0])

    def call():
        machine.now += next(seconds)

    measured = timing.time_together({"x": call}, N=5, D=5, rounds=3, budget_seconds=0)["x"]
    assert measured.samples == (2.0, 3.0, 7.0) and measured.matmul_samples == (1000.0,) * 3


@pytest.mark.parametrize(("calls_before", "rounds"), [(4, 2), (3, 1), (2, None), (1, None)])
def test_ctrl_c_leaves_what_whole_rounds_gave(machine, calls_before, rounds):
    """b comes second in the first round and first in the second; two calls of each warm up."""
    remaining = iter(range(calls_before))

    def stops():
        machine.now += 1.0
        if next(remaining, None) is None:
            raise KeyboardInterrupt

    calls = {"a": machine.work("a", 1.0), "b": stops}
    with pytest.raises(timing.Stopped) as stopped:
        timing.time_together(calls, N=5, D=5, rounds=9, budget_seconds=0)
    found = stopped.value.outcomes
    assert {name: one.rounds for name, one in found.items()} == (
        {"a": rounds, "b": rounds} if rounds else {}
    )
