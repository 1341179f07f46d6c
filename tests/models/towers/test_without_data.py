"""Every kind of tower can be made of tensors without data, as `fastclip plan` counts them."""

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from fastclip.models.build import build_model
from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.convnext.config import ConvNextConfig
from fastclip.models.towers.pe_core.config import PECoreConfig
from tests.support.small_models import COCA, SMALL, TEXT
from tests.support.tips_towers import TIPS

PE_CORE = PECoreConfig(32, patch_size=8, width=32, layers=1, heads=2)
CONVNEXT = ConvNextConfig(64, layers=(1, 1, 1, 1), width=8)
CONFIGS = {
    "vit": SMALL["vit"],
    "resnet": SMALL["resnet"],
    "siglip": SMALL["siglip"],
    "coca": COCA,
    "pe_core": ClipConfig(16, PE_CORE, TEXT),
    "convnext": ClipConfig(16, CONVNEXT, TEXT),
    "tips": TIPS,
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_is_built_where_tensors_hold_no_numbers(config):
    with FakeTensorMode():
        model = build_model(config)
    assert sum(p.numel() for p in model.parameters()) > 1000
