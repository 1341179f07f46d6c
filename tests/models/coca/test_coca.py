"""CoCa with open_clip's weights does what open_clip's does."""

from dataclasses import replace

import pytest
import torch

import fastclip
from fastclip.models.build import class_of
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.model import CoCa
from fastclip.models.coca.presets import presets
from fastclip.models.config import TextConfig
from fastclip.models.lone_tower import keep_only
from fastclip.models.open_clip_config import from_json, to_json
from fastclip.models.precision import set_precision
from fastclip.models.unfilled import unfilled
from tests.support.peers import open_clip
from tests.support.small_models import COCA, NAFLEX, build, inputs


def changed(**changes) -> ClipConfig:
    """The small CoCa with changes of its parts, by their names."""
    parts = {name: replace(getattr(COCA, name), **fields) for name, fields in changes.items()}
    return replace(COCA, **parts)


OTHERS = {
    "coca": COCA,
    "as coca_base": replace(
        changed(
            vision_cfg=dict(attentional_pool=False, width=64, head_width=32),
            text_cfg=dict(no_causal_mask=True, ls_init_value=0.1, pad_id=0),
            multimodal_cfg=dict(ls_init_value=0.2),
        ),
        embed_dim=48, init_logit_bias=-3.0,
    ),
    "average of queries": changed(vision_cfg=dict(pool_type="avg", width=64)).with_quick_gelu(),
}  # fmt: skip


def theirs_of(config: ClipConfig, model: CoCa):
    values = to_json(config)
    values.pop("custom_text")
    theirs = open_clip.CoCa(**values).eval().double()
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs


@pytest.fixture(params=OTHERS.values(), ids=OTHERS)
def pair(request):
    model = build(request.param).double()
    images, tokens = inputs(request.param)
    return model, theirs_of(request.param, model), images.double(), tokens


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-10, atol=1e-12, msg=name)


def test_outputs_are_open_clips(pair):
    model, theirs, images, tokens = pair
    assert_same(model(images, tokens), theirs(images, tokens))
    seen = model(images)
    assert_same(seen, theirs(images))
    again = dict(image_latent=seen["image_features"], image_embs=seen["image_embs"])
    short = tokens[:, :4]
    assert_same(
        model(None, short, **again, output_labels=False),
        theirs(None, short, **again, output_labels=False),
    )
    for args in ((), (True,), (False,)):
        alone = [
            {"image": each.encode_image(images, *args), "text": each.encode_text(tokens, *args)}
            for each in (model, theirs)
        ]
        assert_same(*alone)


def test_gradients_are_open_clips(pair):
    model, theirs, images, tokens = pair
    loss = open_clip.CoCaLoss(2.0, 1.0)
    for each in (model, theirs):
        found = each(images, tokens)
        found.pop("logit_bias", None)
        sum(loss(**found)).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        if name == "logit_bias":
            continue
        torch.testing.assert_close(
            parameter.grad, expected[name].grad, rtol=1e-8, atol=1e-11, msg=name
        )


# Of an encoder of transformers open_clip would fetch the configuration: see test_coca_roberta.py.
@pytest.mark.parametrize("name", [name for name in presets() if "roberta" not in name])
def test_state_dicts_of_whole_models_have_open_clips_keys_and_shapes(name):
    with unfilled():
        ours = class_of(presets()[name])(presets()[name])
        theirs = open_clip.create_model(name, device="meta")
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_losses_of_captions_are_those_of_the_logits(pair):
    model, _, images, tokens = pair
    whole, told = model(images, tokens), model(images, tokens, captions="losses")
    assert "logits" not in told
    of_tokens = torch.nn.functional.cross_entropy(
        whole["logits"].transpose(1, 2), whole["labels"], ignore_index=0, reduction="none"
    )
    torch.testing.assert_close(told["caption_losses"], of_tokens.sum(1))
    assert told["caption_tokens"].tolist() == (tokens[:, 1:] != 0).sum(1).tolist()


def test_checkpointed_blocks_give_the_same_gradients(pair):
    model, _, images, tokens = pair
    model.train()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images, tokens)["logits"].square().sum().backward()
        gradients.append([p.grad for p in model.text_decoder.parameters()])
    assert model.text_decoder.grad_checkpointing
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_either_side_alone_needs_no_decoder():
    model, (images, tokens) = build(COCA), inputs(COCA)
    model.text_decoder = None
    found = model(images, None, captions="none")
    assert found["text_features"] is None
    assert torch.equal(found["image_features"], model.encode_image(images))
    assert torch.equal(
        model(None, tokens, captions="none")["text_features"], model.encode_text(tokens)
    )
    with pytest.raises(ValueError, match="captions must be one of"):
        model(images, tokens, captions="none of them")


def test_a_tower_alone_takes_the_decoder_with_it():
    for side, encode in (("image", "encode_image"), ("text", "encode_text")):
        model = build(COCA)
        keep_only(model, side)
        assert not list(model.text_decoder.parameters())
        getattr(model, encode)(inputs(COCA)[side == "text"])


def test_a_saved_model_is_the_same_again(tmp_path):
    model, (images, tokens) = build(COCA), inputs(COCA)
    fastclip.save_pretrained(model, tmp_path / "coca")
    again = fastclip.create_model(str(tmp_path / "coca")).eval()
    assert type(again) is CoCa and again.config == COCA
    assert torch.equal(again(images, tokens)["logits"], model(images, tokens)["logits"])
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'coca'}").eval()
    assert type(theirs) is open_clip.CoCa
    torch.testing.assert_close(theirs(images, tokens)["logits"], model(images, tokens)["logits"])


def test_longer_texts_and_larger_images_are_open_clips(tmp_path):
    fastclip.save_pretrained(build(COCA), tmp_path / "coca")
    force = dict(force_image_size=48, force_context_length=12)
    ours = fastclip.create_model(str(tmp_path / "coca"), **force)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'coca'}", **force)
    assert ours.context_length == 12
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_sixteen_bits_stay_near():
    model, (images, tokens) = build(COCA), inputs(COCA)
    expected = model(images, tokens)["logits"]
    in_16_bits = set_precision(model, "bf16")
    found = in_16_bits(images.bfloat16(), tokens)["logits"]
    assert found.dtype == torch.bfloat16
    assert in_16_bits.text_decoder.text_projection.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_locked_towers_leave_the_decoder_to_be_trained():
    model = build(COCA)
    model.lock_image_tower()
    model.lock_text_tower()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"text_decoder", "logit_scale"}
    model.lock_image_tower(unlocked_groups=2)
    trained = {name for name, p in model.visual.named_parameters() if p.requires_grad}
    assert "attn_pool.query" in trained and "conv1.weight" not in trained


def test_users_masks_are_obeyed_besides_padding():
    model, (_, tokens) = build(COCA), inputs(COCA)
    expected = model.text(tokens)
    model.text.attn_mask = model.text.build_attention_mask()
    for ours, theirs in zip(model.text(tokens), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    model.text.attn_mask[:, 1] = float("-inf")
    model.text.attn_mask[1, 1] = 0
    assert not torch.allclose(model.text(tokens)[0], expected[0])
    changed_token = tokens.clone()
    changed_token[:, 1] = 40
    torch.testing.assert_close(model.text(changed_token)[0], model.text(tokens)[0])
    with pytest.raises(ValueError, match=r"T in \[1, 9\]"):
        model.text(torch.ones(1, 10, dtype=torch.int64))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"custom_text": False, "multimodal_cfg": None}, "embed_cls needs custom_text"),
        ({"custom_text": False}, "embed_cls needs custom_text"),
        (
            {"text_cfg": {"output_tokens": False, "width": 64}},
            "text_cfg: output_tokens must be true",
        ),
        ({"multimodal_cfg": {"width": 32, "heads": 2}}, "width 32 must be the width of the vision"),
        ({"multimodal_cfg": {"vocab_size": 65}}, "vocab_size 65"),
        ({"multimodal_cfg": {"mlp_ratio": 2}}, "multimodal_cfg: mlp_ratio 2"),
        (
            {"multimodal_cfg": {"depth": 2}},
            "multimodal_cfg has fields that are not supported: depth",
        ),
        ({"multimodal_cfg": {"norm_kwargs": {"eps": 1e-6}}}, "multimodal_cfg: norm_kwargs"),
        ({"multimodal_cfg": []}, "multimodal_cfg must be an object"),
        ({"vision_cfg": {"attentional_pool": "parallel"}}, "attentional_pool must be true"),
        ({"vision_cfg": {"attn_pooler_heads": 5}}, "embed_dim must be a multiple of"),
        ({"vision_cfg": {"final_ln_after_pool": True}}, "final_ln_after_pool must be false"),
    ],
)
def test_a_file_that_does_not_fit_together_names_the_field(change, message):
    values = to_json(COCA)
    for name, value in change.items():
        if isinstance(value, dict):
            values[name] = values[name] | value
        else:
            values[name] = value
    with pytest.raises(ValueError, match=message):
        from_json(values)


def test_a_tower_whose_tokens_may_be_padding_is_refused():
    naflex = replace(NAFLEX.vision_cfg, output_tokens=True)
    with pytest.raises(ValueError, match=r"vision_cfg: a NaFlex tower .* padding of a batch"):
        replace(COCA, vision_cfg=naflex, embed_dim=128)


def test_shapes_alone_do_not_tell_a_coca_model():
    with pytest.raises(CheckpointError, match="this CoCa model cannot be inferred"):
        infer_config(build(COCA).state_dict(), "gelu")


def test_padding_without_a_learned_token_is_of_no_account():
    values = dict(context_length=9, vocab_size=64, width=64, heads=2, layers=1)
    assert TextConfig.from_json(values | {"pad_id": 1}, False).pad_id == 0
    told = TextConfig.from_json(values | {"pad_id": 1, "embed_cls": True}, False)
    assert told.pad_id == 1
