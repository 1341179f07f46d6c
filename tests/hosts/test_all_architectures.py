"""Every architecture that is built in computes what open_clip computes, traced and not."""

import pytest

from fastclip.models.presets import PRESETS
from tests.support.inference import assert_inference_is_open_clips


# Those that write captions are compared in tests/models/coca; they are not traced.
ENCODERS = [name for name, config in PRESETS.items() if config.multimodal_cfg is None]


@pytest.mark.parametrize("name", ENCODERS)
def test_features_traced_and_not_are_open_clips(name, monkeypatch):
    assert_inference_is_open_clips(name, monkeypatch)
