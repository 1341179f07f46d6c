"""open_clip's losses under torch.compile, as benchmarks have them, compute the same loss."""

import dataclasses

import pytest

from fastclip.benchmarks.providers import OBJECTIVES, find_provider
from tests.benchmarks.test_providers import SMALL, errors_of


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_compiled_peer_with_normalisation_agrees_with_float64(objective):
    provider = find_provider(objective, "open_clip+compile")
    case = dataclasses.replace(SMALL, normalize=True)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    measured = errors_of(provider, case)
    assert max(measured.values()) < 3e-6, measured
