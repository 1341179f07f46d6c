"""The emulator sees the mistakes that it is there to see, and nothing where there are none."""

import subprocess

import pytest

from tests.support.emulator import FOLDER, ROOT, build_with

pytestmark = pytest.mark.rehearsal

EXPECTED = {
    "copy": "right",
    "copy without a wait": "nan",
    "copy without a barrier": "nan",
    "threads at two barriers": "64 threads wait for ever",
    "one byte too far": "a block wrote beyond its shared memory",
    "box": "right",
    "box without a wait": "nan",
    "box of fewer bytes than announced": "64 threads wait for ever",
    "box that is not aligned": "a swizzled box does not begin at a multiple of 1024 bytes",
    "store": "right",
    "store without a wait": "a block ended before its stores had read shared memory",
    "product": "right",
    "product without a wait": "wrong",
}


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    source = ROOT / "tests" / "backends" / "cuda" / "misuse.cpp"
    program = build_with([source], FOLDER / "misuse", libraries="")
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return dict(line.split(": ", 1) for line in out.splitlines())


@pytest.mark.parametrize("name", EXPECTED)
def test_mistakes_are_seen(found, name):
    assert found[name] == EXPECTED[name]


def test_every_attempt_is_expected(found):
    assert found.keys() == EXPECTED.keys()
