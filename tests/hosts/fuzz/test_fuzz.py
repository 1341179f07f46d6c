"""Every reader in `targets/` holds; see `harness.py`."""

import os

import pytest

from tests.hosts.fuzz.harness import failures, target_names


@pytest.mark.parametrize("target", target_names())
def test_a_reader_takes_or_refuses_every_file(target, tmp_path):
    seconds = float(os.environ.get("FASTCLIP_FUZZ_SECONDS", "60"))
    seed = int(os.environ.get("FASTCLIP_FUZZ_SEED", "0"))
    inputs = int(os.environ.get("FASTCLIP_FUZZ_INPUTS", "2000"))
    found = failures(target, tmp_path, seconds, seed, inputs=inputs)
    assert not found, "\n\n".join(found)
