"""Models with a tower of timm's, by name, from files and repositories, with timm and without."""

import sys
from dataclasses import replace

import pytest
import torch

import fastclip
from fastclip.models import registry
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.stored_model import StoredModel
from fastclip.models.digests import configuration_digest
from fastclip.models.factory import create_model, create_model_from_pretrained
from fastclip.models.open_clip_config import from_json, is_portable, to_json
from fastclip.models.presets import PRESETS
from fastclip.models.towers.timm.config import TimmConfig
from fastclip.models.towers.timm.trunk import facts_of
from fastclip.train.planning.plan import make_plan
from tests.support.peers import timm
from tests.support.small_models import inputs, shake
from tests.support.small_timm import FAMILIES, both, small, with_small_trunks

EVA, MOBILE, SWIN = "EVA02-B-16", "MobileCLIP2-S0", "swin_base_patch4_window7_224"


@pytest.fixture
def named(monkeypatch):
    """`named(name)` lets an architecture be its small one, and returns that."""

    def become(name):
        with_small_trunks(monkeypatch, **FAMILIES[name])
        monkeypatch.setitem(registry.architectures, name, small(name))
        return registry.architectures[name]

    facts_of.cache_clear()
    yield become
    facts_of.cache_clear()


def made(name):
    torch.manual_seed(0)
    model = create_model(name)
    shake(model)
    return model.eval()


def vision(**values):
    return {"embed_dim": 8, "vision_cfg": values, "text_cfg": {}}


# From files


@pytest.mark.parametrize("name", [EVA, SWIN])
def test_a_directory_is_the_model_again_with_tables_that_no_file_has(name, named, tmp_path):
    config = named(name)
    model = made(name)
    fastclip.save_pretrained(model, tmp_path / "there")
    again = create_model(f"local-dir:{tmp_path / 'there'}").eval()
    assert again.config == config and configuration_digest(again) == configuration_digest(model)
    for found, expected in zip(again(*inputs(config)), model(*inputs(config)), strict=True):
        assert torch.equal(found, expected)


def test_weights_for_images_of_another_size_become_what_open_clip_makes_of_them(named):
    named(EVA)
    theirs, ours = both(EVA)
    theirs.visual.set_input_size(112)
    config = replace(ours.config, vision_cfg=replace(ours.config.vision_cfg, image_size=112))
    stored = StoredModel(ours.state_dict(), ours.config, None, None, None)
    resized = build_model(config, stored, resize=True).eval()
    images, _ = inputs(config)
    found, expected = resized.encode_image(images), theirs.eval().encode_image(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert is_portable(ours.config) and not is_portable(config)  # open_clip would build for 224


def test_bare_weights_do_not_tell_the_trunk(named, tmp_path):
    named(EVA)
    tensors = made(EVA).state_dict()
    with pytest.raises(CheckpointError, match=r"one of timm's.*give the name of the model"):
        infer_config(tensors, "gelu", heads=1)
    torch.save(tensors, tmp_path / "weights.pt")
    model = create_model(EVA, tmp_path / "weights.pt")
    assert torch.equal(model.visual.trunk.pos_embed, tensors["visual.trunk.pos_embed"])


def test_weights_of_another_trunk_or_pooling_are_refused(named):
    config = named(EVA)
    tower = replace(config.vision_cfg, timm_model_name="eva02_base_patch16_clip_quickgelu_224")
    stored = StoredModel(
        made(EVA).state_dict(), replace(config, vision_cfg=tower), None, None, None
    )
    with pytest.raises(CheckpointError, match="has trunk_without_size 'eva02_base_patch16_clip_q"):
        build_model(config, stored)


# Published weights


@pytest.fixture
def published(named, monkeypatch, tmp_path):
    """`published(name, tag)` creates a model of weights whose own file speaks of other images."""

    def create(name, tag):
        config, asked = named(name), []
        model = made(name)
        fastclip.set_model_preprocess_cfg(model, {"mean": (0.1,) * 3, "std": (0.2,) * 3})
        if name != "ViTamin-S":
            fastclip.save_pretrained(model, tmp_path / "repository")
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

        def fetched(repository, *file, cache_dir=None):
            asked.append((repository, *[f for f in file if f]))
            return tmp_path / (asked[-1][1] if len(asked[-1]) > 1 else "repository")

        monkeypatch.setattr("fastclip.models.factory.fetch_repository", fetched)
        monkeypatch.setattr("fastclip.models.factory.download_pretrained_from_hf", fetched)
        created, transform = create_model_from_pretrained(name, tag)
        assert created.config == config
        return asked, transform.cfg

    return create


@pytest.mark.parametrize(
    "name, tag, repository, images",
    [
        (MOBILE, "dfndr2b", ("timm/MobileCLIP2-S0-OpenCLIP",), (0.0, 1.0, "bilinear", "shortest")),
        (
            "ViTamin-S", "datacomp1b", ("jienengchen/ViTamin-S", "pytorch_model.bin"),
            (0.48145466, 0.26862954, "bicubic", "shortest"),
        ),
    ],
)  # fmt: skip
def test_images_are_prepared_as_a_tag_says_whatever_lies_beside_the_weights(
    name, tag, repository, images, published
):
    asked, cfg = published(name, tag)
    assert asked == [repository]
    assert (cfg.mean[0], cfg.std[0], cfg.interpolation, cfg.resize_mode) == images
    assert cfg.height_width == registry.architectures[name].vision_cfg.image_size


def test_the_trunk_of_vitamin_xl_384_takes_its_own_size():
    config = PRESETS["ViTamin-XL-384"]
    assert config.vision_cfg.image_size == (384, 384)
    told = {**to_json(config)["vision_cfg"], "image_size": 256}
    assert TimmConfig.from_json(told, False) == config.vision_cfg
    assert timm.models.get_pretrained_cfg("vitamin_xlarge_384").input_size == (3, 384, 384)


def test_weights_of_timm_are_fetched_where_they_are_asked_for_alone(named, monkeypatch, tmp_path):
    named(SWIN)
    fastclip.save_pretrained(made(SWIN), tmp_path / "there")
    asked, plain = [], timm.create_model

    def recorded(name, pretrained=False, **settings):
        asked.append(pretrained)
        torch.manual_seed(7)  # stands for the weights of the name
        return plain(name, **settings)

    monkeypatch.setattr(timm, "create_model", recorded)
    torch.manual_seed(1)
    model = create_model(SWIN, pretrained_image=True)
    assert asked == [False, True]
    torch.manual_seed(7)
    expected = plain("swin_base_patch4_window7_224")
    assert torch.equal(model.visual.trunk.patch_embed.proj.weight, expected.patch_embed.proj.weight)
    create_model(f"local-dir:{tmp_path / 'there'}", pretrained_image=True)
    create_model(SWIN)
    assert asked == [False, True, False, False]
    with pytest.raises(ValueError, match="ViT-B-32 has no image tower of timm's"):
        create_model("ViT-B-32", pretrained_image=True)


# What is refused


@pytest.mark.parametrize(
    "told, message",
    [
        (dict(timm_model_name="local-dir:/tmp"), "must be a name of timm's, got 'local-dir:/tmp'"),
        (dict(timm_model_name=["resnet50"]), "must be a name of timm's"),
        (dict(timm_model_name="resnet50", timm_model_pretrained=True), "fetches no weights"),
        (dict(timm_model_name="resnet50", timm_pool="rot_attn"), "timm_pool must be one of"),
        (dict(timm_model_name="resnet50", timm_proj="conv"), "timm_proj must be one of"),
        (dict(timm_model_name="resnet50", timm_pool="", timm_proj=None), "without pooling"),
        (dict(timm_model_name="resnet50", timm_drop=1.5), "timm_drop must be in"),
        (dict(timm_model_name="resnet50", timm_drop_path="much"), "timm_drop_path must be in"),
        (dict(timm_model_name="resnet50", image_size=10**6), "image_size must be at most"),
        (dict(timm_model_name="resnet50", layers=6), "layers 6"),
    ],
)
def test_a_configuration_that_is_not_obeyed_is_refused_by_name(told, message):
    with pytest.raises(ValueError, match=message):
        from_json(vision(**told))


@pytest.mark.parametrize(
    "told, message",
    [
        (dict(timm_model_name="vit_tiny"), r"timm [\d.]+ has no model 'vit_tiny'"),
        (dict(timm_model_name="resnet10t", patch_dropout=0.5), "patch_dropout 0.5"),
        (dict(timm_model_name="resnet10t", timm_pool="token"), "timm_pool 'token'"),
        (dict(timm_model_name="resnet10t", image_size=100), "not a multiple of 32"),
        (dict(timm_model_name="resnet10t", timm_proj="none"), "width 512 of resnet10t must be em"),
    ],
)
def test_what_timm_does_not_build_is_refused_by_name(told, message):
    config = from_json(vision(**told))
    with pytest.raises(ValueError, match=message):
        build_model(config)


def test_without_timm_a_model_is_listed_and_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert {EVA, MOBILE, SWIN} <= set(fastclip.list_models())
    assert fastclip.get_model_config(EVA)["vision_cfg"]["image_size"] == 224
    with pytest.raises(ImportError, match='pip install "timm'):
        create_model(MOBILE)


# Of the rest of fastclip


@pytest.mark.parametrize("name", [EVA, MOBILE])
def test_a_step_is_planned_without_data(name, named):
    config = named(name)
    plan = make_plan(config, 16, 2**32, grad_checkpointing=True)
    parameters = sum(p.numel() for p in made(name).parameters())
    assert plan.weights == 16 * parameters  # a gradient, the parameter and two averages


def test_the_trunk_says_what_the_configuration_does_not():
    tower = PRESETS[MOBILE].vision_cfg
    assert (tower.grid_size, tower.width, tower.heads) == ((8, 8), 1024, None)
    made = timm.create_model("fastvit_mci0", num_classes=1)
    assert tower.num_matrix_parameters() == sum(p.numel() for p in made.parameters())


def test_a_file_cannot_ask_for_tables_of_huge_images():
    huge = vision(timm_model_name="vit_relpos_medium_patch16_cls_224", image_size=2048)
    with pytest.raises(ValueError, match=r"\(2048, 2048\) is more than 4 times the \(224, 224\)"):
        build_model(from_json(huge))
