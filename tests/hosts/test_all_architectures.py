"""Every architecture that is built in computes what open_clip computes, traced and not."""

import pytest

from fastclip.models.presets import PRESETS
from tests.support.inference import assert_inference_is_open_clips


@pytest.mark.parametrize("name", PRESETS)
def test_features_traced_and_not_are_open_clips(name, monkeypatch):
    assert_inference_is_open_clips(name, monkeypatch)
