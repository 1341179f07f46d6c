"""Other people's code on the inside of towers: right in the layout that it has, or refused.

The functions are short versions of what prompt learning (CoOp), dense features (MaskCLIP)
and visual prompts do with OpenAI's models, sequence first, and with open_clip's, batch first.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastclip
from fastclip.models.checkpoints.write import save_pretrained
from tests.models.test_output_tokens import peer_of
from tests.support.small_models import SMALL, build, inputs

CONFIG = SMALL["quick_gelu"]
IMAGES, TOKENS = inputs(CONFIG)
TOLERANCE = dict(rtol=1e-5, atol=3e-6)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("surgery") / "model"
    save_pretrained(build(CONFIG), path)
    return path


@pytest.fixture
def loaded(directory):
    return fastclip.load(directory, device="cpu")[0]


@pytest.fixture
def built():
    return build(CONFIG)


def turned(x, sequence_first):
    return x.permute(1, 0, 2) if sequence_first else x


def read_text(model, tokens, run, sequence_first):
    """A prompt learner's text encoder: embeddings of its own go through `run`."""
    x = model.token_embedding(tokens).type(model.dtype)
    x = x + model.positional_embedding.type(model.dtype)
    x = turned(run(turned(x, sequence_first)), sequence_first)
    x = model.ln_final(x).type(model.dtype)
    return x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ model.text_projection


def read_image(model, images, run, sequence_first, extra=None):
    """An image tower by hand, with `extra` tokens behind the patches, as visual prompts have."""
    visual = model.visual
    x = visual.conv1(images.type(model.dtype)).flatten(2).permute(0, 2, 1)
    first = visual.class_embedding.to(x.dtype) + torch.zeros(x.shape[0], 1, x.shape[-1])
    x = torch.cat([first, x], dim=1) + visual.positional_embedding.to(x.dtype)
    x = visual.ln_pre(x)
    if extra is not None:
        x = torch.cat([x, extra.expand(x.shape[0], -1, -1)], dim=1)
    x = turned(run(turned(x, sequence_first)), sequence_first)
    return visual.ln_post(x[:, 0]) @ visual.proj


# Ways to run a transformer that both interfaces offer.
def whole(transformer, **mask):
    return lambda x: transformer(x, **mask)


def one_by_one(transformer, **mask):
    def run(x):
        for block in transformer.resblocks:
            x = block(x, **mask)
        return x

    return run


def called_blocks(transformer):
    return transformer.resblocks


def by_parts(transformer):
    """Each block spelled out, as code that changes a part of it does."""

    def run(x):
        for block in transformer.resblocks:
            x = x + block.attention(block.ln_1(x))
            x = x + block.mlp(block.ln_2(x))
        return x

    return run


@pytest.mark.parametrize("way", [whole, one_by_one, called_blocks, by_parts])
def test_loaded_models_take_openais_layout(loaded, way):
    with torch.no_grad():
        text = read_text(loaded, TOKENS, way(loaded.transformer), True)
        image = read_image(loaded, IMAGES, way(loaded.visual.transformer), True)
        torch.testing.assert_close(text, loaded.encode_text(TOKENS), **TOLERANCE)
        torch.testing.assert_close(image, loaded.encode_image(IMAGES), **TOLERANCE)


def test_loaded_and_built_models_have_the_same_features(loaded, built):
    with torch.no_grad():
        for length in (9, 8):  # texts may be shorter than the context
            tokens = TOKENS[1:2, :length]
            torch.testing.assert_close(
                loaded.encode_text(tokens), built.encode_text(tokens), **TOLERANCE
            )
        torch.testing.assert_close(
            loaded.encode_image(IMAGES), built.encode_image(IMAGES), **TOLERANCE
        )


@pytest.mark.parametrize("way", [whole, one_by_one])
def test_built_models_take_open_clips_layout_and_mask(built, way):
    with torch.no_grad():
        text = read_text(
            built, TOKENS, way(built.transformer, attn_mask=built.attn_mask), False
        )  # fmt: skip
        image = read_image(built, IMAGES, way(built.visual.transformer), False)
        torch.testing.assert_close(text, built.encode_text(TOKENS), **TOLERANCE)
        torch.testing.assert_close(image, built.encode_image(IMAGES), **TOLERANCE)


@pytest.mark.parametrize("way", [whole, one_by_one, by_parts])
@pytest.mark.parametrize("sequence_first", [True, False])
def test_a_causal_text_tower_without_its_mask_is_refused(built, way, sequence_first):
    with pytest.raises(ValueError, match=r"attn_mask=model\.attn_mask.*fastclip\.load"):
        read_text(built, TOKENS, way(built.transformer), sequence_first)


@pytest.mark.parametrize("way", [whole, one_by_one])
def test_a_mask_of_other_sequences_names_the_layout(built, loaded, way):
    with pytest.raises(ValueError, match=r"for 9 tokens, but there are 3.*take \(B, T, width\)"):
        read_text(built, TOKENS, way(built.transformer, attn_mask=built.attn_mask), True)
    with pytest.raises(ValueError, match=r"for 9 tokens, but there are 3.*take \(T, B, width\)"):
        read_text(loaded, TOKENS, way(loaded.transformer), False)


@pytest.mark.parametrize("way", [whole, one_by_one])
def test_images_in_the_other_layout_are_refused(built, loaded, way):
    for model, sequence_first, said in ((built, True, False), (loaded, False, True)):
        run = way(model.visual.transformer)
        with pytest.raises(ValueError, match=f"17 tokens.*pass batch_first={said}"):
            read_image(model, IMAGES, run, sequence_first)


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_layout_that_is_said_is_taken(built, loaded, tower):
    read, batch = (read_text, TOKENS) if tower == "text" else (read_image, IMAGES)
    for model, sequence_first in ((built, True), (loaded, False)):
        transformer = model.transformer if tower == "text" else model.visual.transformer
        mask = dict(attn_mask=model.attn_mask) if tower == "text" else {}
        for way in (whole, one_by_one):
            run = way(transformer, batch_first=not sequence_first, **mask)
            found = read(model, batch, run, sequence_first)
            expected = read(model, batch, way(transformer, **mask), not sequence_first)
            torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("num_images", [3, 17])
def test_visual_prompts_and_a_batch_of_as_many_images_as_tokens(built, loaded, num_images):
    extra = torch.randn(1, 2, 128)
    images = torch.randn(num_images, 3, 32, 32)
    for way in (whole, one_by_one):
        for model, sequence_first in ((built, False), (loaded, True)):
            run = way(model.visual.transformer)
            one = read_image(model, images[:1], run, sequence_first, extra)
            found = read_image(model, images, run, sequence_first, extra)
            torch.testing.assert_close(found[:1], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_images", [16, 17, 18])
def test_towers_take_any_number_of_images_and_of_patches_left_out(num_images):
    config = replace(CONFIG, vision_cfg=replace(CONFIG.vision_cfg, patch_dropout=0.5))
    model = build(config).train()
    model.visual.transformer.register_forward_hook(lambda *a: None)
    images = torch.randn(num_images, 3, 32, 32)
    assert model.encode_image(images).shape == (num_images, 48)


def test_patches_before_attention_mixes_them_are_read_from_both(built, loaded):
    """Values of the last block instead of what attention makes of them, as MaskCLIP reads."""

    def dense(model, sequence_first):
        found = []
        *blocks, last = model.visual.transformer.resblocks

        def run(x):
            for block in blocks:
                x = block(x)
            weight = last.attn.in_proj_weight[-last.attn.embed_dim :]
            bias = last.attn.in_proj_bias[-last.attn.embed_dim :]
            found.append(
                turned(last.attn.out_proj(F.linear(last.ln_1(x), weight, bias)), sequence_first)
            )
            return x

        read_image(model, IMAGES, run, sequence_first)
        return model.visual.ln_post(found[0][:, 1:]) @ model.visual.proj

    assert dense(built, False).shape == (3, 16, 48)
    torch.testing.assert_close(dense(loaded, True), dense(built, False), **TOLERANCE)


def test_hooks_see_the_layout_of_the_interface(built, loaded):
    for model, shape in ((built, (3, 17, 128)), (loaded, (17, 3, 128))):
        seen = []
        for place in ("", ".resblocks.0", ".resblocks.2", ".resblocks.2.ln_1"):
            model.visual.get_submodule(f"transformer{place}").register_forward_hook(
                lambda module, args, output, seen=seen: seen.append(tuple(output.shape))
            )
        model.encode_image(IMAGES)
        assert seen == 4 * [shape]


def test_inside_of_towers_is_open_clips(built):
    """Tokens behind transformers, blocks and attention, and the weights of attention."""
    theirs = peer_of(built, CONFIG)
    x = torch.randn(3, 9, 128)
    mask = built.attn_mask
    assert torch.equal(mask, theirs.attn_mask)
    for one, other in (
        (built.transformer, theirs.transformer),
        (built.transformer.resblocks[1], theirs.transformer.resblocks[1]),
    ):
        torch.testing.assert_close(one(x, attn_mask=mask), other(x, attn_mask=mask), **TOLERANCE)
    for one, other in zip(
        built.visual.transformer.resblocks, theirs.visual.transformer.resblocks, strict=True
    ):
        torch.testing.assert_close(one.attention(x), other.attention(x), **TOLERANCE)
        for settings in (
            dict(need_weights=False, attn_mask=mask),
            dict(need_weights=True, average_attn_weights=False, attn_mask=mask.isneginf()),
            dict(need_weights=False, attn_mask=mask.isneginf()),
            dict(need_weights=False, attn_mask=torch.randn(6, 9, 9)),
            dict(key_padding_mask=torch.arange(9).expand(3, 9) > 6),
        ):
            found, weights = one.attn(x, x, x, **settings)
            expected, their_weights = other.attn(x, x, x, **settings)
            torch.testing.assert_close(found, expected, **TOLERANCE)
            torch.testing.assert_close(weights, their_weights, **TOLERANCE)


def test_attributes_that_public_code_reads(built, loaded):
    for model in (built, loaded):
        assert model.dtype == model.transformer.get_cast_dtype() == torch.float32
        assert (model.context_length, model.vocab_size) == (9, 64)
        assert (model.transformer.width, model.transformer.layers) == (128, 2)
        assert len(model.transformer.resblocks) == 2
        visual = model.visual
        assert (visual.input_resolution, visual.output_dim) == (32, 48)
        assert visual.class_embedding.shape == visual.ln_pre.weight.shape == (128,)
        assert visual.positional_embedding.shape == (17, 128)
        attention = visual.transformer.resblocks[0].attn
        assert isinstance(attention, nn.MultiheadAttention)
        assert (attention.num_heads, attention.head_dim) == (2, 64)
        assert model.attn_mask.shape == (9, 9) and "attn_mask" not in model.state_dict()
        assert torch.equal(model.build_attention_mask(), model.attn_mask)
    assert built.transformer.batch_first and not loaded.transformer.batch_first
    assert loaded.transformer.resblocks[1].attn_mask.shape == (9, 9)
    assert loaded.visual.transformer.resblocks[1].attn_mask is None


@pytest.mark.parametrize("interface", ["built", "loaded"])
def test_another_mask_is_obeyed(interface, request):
    model = request.getfixturevalue(interface)
    text = TOKENS.clone()
    text[:, 2:] = torch.tensor([63, 1, 2, 3, 4, 5, 6])  # read at 2: what is behind is not seen
    changed = text.clone()
    changed[:, 5] = 40
    with torch.no_grad():
        assert torch.equal(model.encode_text(text), model.encode_text(changed))
        assert model.text_lengths(text).tolist() == [3, 3, 3]
        model.attn_mask = torch.zeros(9, 9)
        off = (model.encode_text(text) - model.encode_text(changed)).abs().amax(1)
        assert (off > 1e-4).all()
        open_to_all = model.encode_text(text)
        model.attn_mask = None
        torch.testing.assert_close(model.encode_text(text), open_to_all, **TOLERANCE)
        assert model.text_lengths(text).tolist() == [9, 9, 9]


def test_parameters_of_a_loaded_model_are_made_anew(loaded):
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    loaded.initialize_parameters()
    moved = {n for n, value in loaded.state_dict().items() if not torch.equal(value, before[n])}
    assert {"positional_embedding", "visual.proj", "visual.ln_post.weight"} <= moved
    assert loaded.visual.ln_post.weight.eq(1).all()


def test_a_loaded_model_in_16_bits_keeps_its_interface(directory):
    model, _ = fastclip.load(directory, device="cpu", precision="pure_bf16")
    found = read_text(model, TOKENS, whole(model.transformer), True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, model.encode_text(TOKENS), rtol=0.1, atol=0.1)


def test_cross_attention_is_refused(built):
    x = torch.randn(2, 17, 128)
    with pytest.raises(ValueError, match="no cross-attention"):
        built.visual.transformer.resblocks[0](x, x, x)
