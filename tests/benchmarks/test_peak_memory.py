"""Memory is measured in fresh processes: it sees what a call allocates, and only that."""

import json
import subprocess
import sys

import pytest

from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.memory import MemoryNotMeasured, extra_bytes
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider

MIB = 2**20

PROBE = """
import json, torch
from fastclip.benchmarks.memory import peak_beyond_gradients
from fastclip.process_memory import rise_bytes

def mebibytes(count):
    return torch.ones(count * 2**18)

mebibytes(300)  # an earlier peak, which must not count
inputs = mebibytes(100)
torch.ones(8, 8) @ torch.ones(8, 8)

class Step:
    leaves = (inputs, inputs)

    def __call__(self):
        return [torch.ones_like(x) for x in self.leaves], mebibytes(40)

measured = [
    rise_bytes(lambda: mebibytes(200)),
    rise_bytes(lambda: inputs.sum()),
    peak_beyond_gradients(Step()),
]
print(json.dumps(measured))
"""


@pytest.mark.slow
def test_rise_bytes_sees_an_allocation_and_neither_inputs_nor_gradients():
    child = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    allocating, reading, beyond_gradients = json.loads(child.stdout)
    assert 195 * MIB < allocating < 215 * MIB
    assert reading < 8 * MIB
    assert 35 * MIB < beyond_gradients < 55 * MIB


@pytest.mark.slow
def test_extra_bytes_of_the_reference_are_its_matrices():
    # A matrix of 36 MiB: below 32 MiB, glibc may keep what was freed.
    extra = extra_bytes(find_provider("clip", "fastclip/reference"), Case(N=3072, D=16))
    assert 2 * 36 * MIB < extra < 6 * 36 * MIB


def test_extra_bytes_failure_has_the_last_line_of_the_error():
    unknown = Provider("nobody", "clip", lambda: None)
    with pytest.raises(MemoryNotMeasured, match=r"ValueError.*got 'nobody'"):
        extra_bytes(unknown, Case(N=2, D=2))
