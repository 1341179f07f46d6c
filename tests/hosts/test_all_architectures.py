"""Every architecture that is built in computes what open_clip computes, traced and not."""

import pytest

from fastclip.models.presets import PRESETS
from fastclip.models.towers.vision_transformer.presets import SMALL
from tests.support.inference import assert_inference_is_open_clips

# Of those with an encoder of transformers open_clip would fetch the configuration:
# tests/models/test_hugging_face_models.py compares them with its own. Those that write captions are
# compared in tests/models/coca; they are not traced. Those with a tower of timm's take minutes:
# tests/models/towers/test_timm_tower.py has small ones of each family. Of ConvNeXt there is one of
# each kind of head, and the one with another epsilon. NaFlex models are of open_clip's main branch
# alone: tests/models/towers/test_naflex.py compares them with transformers and timm. open_clip has
# none of the small models of our own.
CONVNEXTS = {"convnext_tiny", "convnext_large_d", "convnext_xxlarge"}
NAMES = [
    name
    for name, model in PRESETS.items()
    if model.multimodal_cfg is None
    and (name in CONVNEXTS or not name.startswith("convnext"))
    and not model.text_cfg.is_published_alone
    and not model.vision_cfg.is_named
    and not name.endswith("SigLIP2-naflex")
    and not name.startswith("TIPS")  # neither of which open_clip 3.3.0 has
    and name not in SMALL
]


@pytest.mark.parametrize("name", NAMES)
def test_features_traced_and_not_are_open_clips(name, monkeypatch):
    assert_inference_is_open_clips(name, monkeypatch)
