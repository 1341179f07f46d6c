from dataclasses import replace

import pytest
import torch

from fastclip.models.checkpoints.errors import (
    ActivationMismatchError,
    CheckpointError,
    KeyMismatchError,
)
from fastclip.models.checkpoints.load import load_checkpoint
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip import CLIP
from fastclip.models.open_clip_config import to_json
from tests.support.small_models import SMALL, build


@pytest.fixture
def weights(tmp_path):
    """A bare state dict, and the model that it is of."""
    model = build(SMALL["vit"])
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return path, model


def equal(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def change(path, function):
    state = torch.load(path, weights_only=True)
    function(state)
    torch.save(state, path)


def test_weights_are_loaded_bit_for_bit(weights):
    path, model = weights
    other = build(SMALL["vit"], seed=5)
    assert not equal(other, model)
    assert load_checkpoint(other, path) is None
    assert equal(other, model)


def test_text_keys_fit_with_and_without_prefix(weights, tmp_path):
    path, model = weights
    custom = build(replace(SMALL["vit"], custom_text=True), seed=5)
    load_checkpoint(custom, path)
    torch.save(custom.state_dict(), tmp_path / "custom.pt")
    again = build(SMALL["vit"], seed=6)
    load_checkpoint(again, tmp_path / "custom.pt")
    assert equal(again, model)


def test_scale_of_one_element_is_a_scalar(weights):
    path, model = weights
    change(path, lambda s: s.update(logit_scale=s["logit_scale"].reshape(1)))
    other = build(SMALL["vit"], seed=5)
    load_checkpoint(other, path)
    assert other.logit_scale.shape == () and equal(other, model)


def test_counters_that_old_files_lack_start_at_zero(tmp_path):
    model = build(SMALL["resnet"])
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "weights.pt")
    other = build(SMALL["resnet"], seed=5)
    load_checkpoint(other, tmp_path / "weights.pt")
    assert equal(other, model)


def test_mismatches_are_listed_by_kind_and_nothing_is_loaded(weights):
    path, _ = weights

    def damage(state):
        del state["ln_final.weight"], state["visual.ln_pre.bias"]
        state["visual.head.weight"] = torch.ones(2)
        state["visual.proj"] = torch.ones(2, 3)

    change(path, damage)
    other = build(SMALL["vit"], seed=5)
    with pytest.raises(KeyMismatchError) as raised:
        load_checkpoint(other, path)
    error = raised.value
    assert sorted(error.missing) == ["ln_final.weight", "visual.ln_pre.bias"]
    assert error.unexpected == ["visual.head.weight"]
    assert error.misshapen == ["visual.proj: (2, 3) in the weights, (128, 48) in the model"]
    assert all(name in str(error) for name in (*error.missing, *error.unexpected, "(128, 48)"))
    assert equal(other, build(SMALL["vit"], seed=5))


def test_long_lists_of_mismatches_are_cut():
    message = str(KeyMismatchError([f"layer.{i}" for i in range(20)], [], []))
    assert "20 missing" in message and "layer.7" in message and "and 12 more" in message
    assert "layer.8" not in message


def test_what_fits_is_loaded_when_not_strict(weights):
    path, model = weights
    change(path, lambda s: (s.pop("ln_final.weight"), s.update({"visual.proj": torch.ones(2)})))
    other = build(SMALL["vit"], seed=5)
    before = other.visual.proj.clone()
    mismatch = load_checkpoint(other, path, strict=False)
    assert mismatch.missing == ["ln_final.weight"] and len(mismatch.misshapen) == 1
    assert torch.equal(other.visual.conv1.weight, model.visual.conv1.weight)
    assert torch.equal(other.visual.proj, before)


@pytest.mark.parametrize("how", ["openai", "checkpoint", "open_clip", "hf"])
def test_weights_of_another_activation_are_refused_with_both_names(how, tmp_path):
    quick = build(SMALL["quick_gelu"])
    path = tmp_path / "weights"
    if how == "openai":
        extras = {k: torch.tensor(1) for k in ("input_resolution", "context_length", "vocab_size")}
        torch.save(quick.state_dict() | extras, path)
    elif how == "checkpoint":
        content = {"state_dict": quick.state_dict(), "model_config": to_json(quick.config)}
        torch.save(content, path)
    else:
        save_pretrained(quick, path, layout=how)
    with pytest.raises(ActivationMismatchError, match="quick_gelu, the model has gelu") as raised:
        load_checkpoint(build(SMALL["vit"]), path)
    assert (raised.value.weights, raised.value.model) == ("quick_gelu", "gelu")
    load_checkpoint(build(SMALL["quick_gelu"], seed=5), path)


def test_errors_are_what_torch_and_fastclip_raise():
    assert issubclass(CheckpointError, (ValueError, RuntimeError))
    assert issubclass(KeyMismatchError, RuntimeError)


@pytest.mark.parametrize("name", ["vit", "siglip", "resnet"])
def test_positions_are_resized_only_when_asked(name, tmp_path):
    config = SMALL[name]
    torch.save(build(config).state_dict(), tmp_path / "weights.pt")
    side = config.vision_cfg.image_size[0]
    larger = replace(
        config,
        vision_cfg=replace(config.vision_cfg, image_size=(2 * side, side)),
        text_cfg=replace(config.text_cfg, context_length=13),
    )
    with pytest.raises(KeyMismatchError, match=r"2 of another shape.*positional_embedding"):
        load_checkpoint(build(larger), tmp_path / "weights.pt")
    assert load_checkpoint(build(larger), tmp_path / "weights.pt", resize=True) is None


def test_model_without_configuration_takes_any_weights_that_fit(weights):
    from fastclip.models.towers.text.module import TextTransformer
    from fastclip.models.two_tower import TwoTower

    path, model = weights
    config = SMALL["vit"]
    image_tower = config.vision_cfg.build(config.embed_dim)
    pair = TwoTower(image_tower, TextTransformer(config.text_cfg, config.embed_dim))
    load_checkpoint(pair, path)
    assert torch.equal(pair.text.ln_final.weight, model.ln_final.weight)
    assert isinstance(model, CLIP)


@pytest.mark.parametrize(
    "tower, change, message",
    [
        ("vision_cfg", {"head_width": 32}, "vision_cfg has heads 4, but this model has 2"),
        ("text_cfg", {"heads": 4}, "text_cfg has heads 4, but this model has 2"),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg has pool_type 'avg', but this .* 'tok'"),
        ("text_cfg", {"pool_type": "first"}, "text_cfg has pool_type 'first'"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg has no_causal_mask True"),
    ],
    ids=str,
)
def test_equal_tensors_of_a_tower_that_reads_them_otherwise_are_refused(
    tower, change, message, tmp_path
):
    config = SMALL["vit"]
    other = build(replace(config, **{tower: replace(getattr(config, tower), **change)}))
    save_pretrained(other, tmp_path / "other")
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(build(config), tmp_path / "other", strict=strict)
    load_checkpoint(build(other.config, seed=5), tmp_path / "other")
