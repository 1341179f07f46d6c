"""A causal mask is not made where nobody looks, and is what counts wherever somebody does."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastclip.models.clip import CLIP
from fastclip.models.openai import LogitsCLIP
from tests.support.small_models import SMALL, build, inputs

CONFIG = SMALL["vit"]
_, TOKENS = inputs(CONFIG)
TOLERANCE = dict(rtol=1e-5, atol=3e-6)


def loaded():
    model = LogitsCLIP(CONFIG).eval()
    model.load_state_dict(build(CONFIG).state_dict())
    return model


@pytest.fixture
def calls(monkeypatch):
    """Of each call of the kernel, whether it was given a mask, and whether it makes its own."""
    kernel, found = F.scaled_dot_product_attention, []

    def spy(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
        found.append((attn_mask is not None, is_causal))
        return kernel(q, k, v, attn_mask, dropout_p, is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return found


MAKES_ITS_OWN, IS_GIVEN = (False, True), (True, False)


def test_the_kernel_makes_the_mask_but_for_the_token_that_is_read(calls):
    build(CONFIG).encode_text(TOKENS)
    assert calls == [MAKES_ITS_OWN, IS_GIVEN]


def look_at_mask(model):
    model.attn_mask.max()


def look_at_arguments(model):
    model.transformer.resblocks[0].register_forward_pre_hook(lambda *a: None, with_kwargs=True)


def replace_attention(model):
    block = model.transformer.resblocks[0]
    plain = nn.MultiheadAttention(128, 2, batch_first=True)
    plain.load_state_dict(block.attn.state_dict())
    block.attn = plain


def patch_attention(model):
    block = model.transformer.resblocks[0]
    original = block.attention
    block.attention = lambda x, attn_mask: original(x, attn_mask=attn_mask)


@pytest.mark.parametrize(
    "change", [look_at_mask, look_at_arguments, replace_attention, patch_attention]
)
def test_whoever_could_see_the_mask_gets_one(change, calls):
    model = build(CONFIG)
    expected = model.encode_text(TOKENS)
    change(model)
    calls.clear()
    torch.testing.assert_close(model.encode_text(TOKENS), expected, **TOLERANCE)
    assert calls[-1] == IS_GIVEN and MAKES_ITS_OWN not in calls


def test_a_hook_that_changes_the_mask_is_obeyed():
    model = build(CONFIG)
    causal = model.encode_text(TOKENS)
    for block in model.transformer.resblocks:
        block.register_forward_pre_hook(
            lambda module, args, named: (args, {**named, "attn_mask": torch.zeros(9, 9)}),
            with_kwargs=True,
        )
    found = model.encode_text(TOKENS)
    model = build(CONFIG)
    model.attn_mask = torch.zeros(9, 9)
    torch.testing.assert_close(found, model.encode_text(TOKENS), **TOLERANCE)
    assert (found - causal).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: build(CONFIG), loaded])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("write", [lambda mask: mask.zero_(), lambda mask: mask.data.fill_(0)])
def test_what_is_written_into_a_mask_is_obeyed_by_every_block(make, moved, write):
    model, other = make(), make()
    if moved:
        model, other = model.double(), other.double()
    causal = model.encode_text(TOKENS)
    write(model.attn_mask)
    other.attn_mask = torch.zeros(9, 9)
    found = model.encode_text(TOKENS)
    torch.testing.assert_close(found, other.encode_text(TOKENS), **TOLERANCE)
    assert (found - causal).abs().max() > 1e-3


def test_a_mask_moves_with_its_tower_and_is_no_buffer():
    model = build(CONFIG)
    assert model.half().attn_mask.dtype == torch.float16  # made behind the move
    assert model.double().attn_mask.dtype == torch.float64
    assert not [*model.buffers(), *loaded().buffers()]
    blocks = loaded().transformer.double().resblocks  # a part alone, as prompt learners take it
    assert blocks[0].attn_mask.dtype == torch.float64
    assert blocks[0].attn_mask is blocks[1].attn_mask
    first, second = model, copy.deepcopy(model)
    second.attn_mask.zero_()
    assert first.attn_mask.isneginf().sum() == 36


@pytest.mark.parametrize("model_class", [CLIP, LogitsCLIP])
def test_towers_that_were_made_without_data_have_their_mask(model_class):
    with torch.device("meta"):
        model = model_class(CONFIG)
    model.to_empty(device="cpu").load_state_dict(build(CONFIG).state_dict())
    torch.testing.assert_close(
        model.eval().encode_text(TOKENS), build(CONFIG).encode_text(TOKENS), **TOLERANCE
    )


def test_masks_are_cast_for_whatever_attention_there_is():
    for model, batch_first in ((build(CONFIG), True), (loaded(), False)):
        for block in model.transformer.resblocks:
            block.attn = nn.MultiheadAttention(128, 2, batch_first=batch_first)
        assert model.to(torch.bfloat16).encode_text(TOKENS).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_obeys_a_mask_that_is_changed_later():
    torch._dynamo.reset()
    model = build(CONFIG)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    causal = compiled(None, TOKENS)[1]
    model.attn_mask.zero_()
    found = compiled(None, TOKENS)[1]
    assert (found - causal).abs().max() > 1e-3
    torch.testing.assert_close(found, model(None, TOKENS)[1], **TOLERANCE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_that_asks_for_the_mask_compiles():
    torch._dynamo.reset()
    model, x = build(CONFIG), torch.randn(2, 9, 128)

    def run(x):
        return model.transformer(x, attn_mask=model.attn_mask)

    found = torch.compile(run, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, run(x), **TOLERANCE)


def test_a_mask_that_was_first_asked_for_in_inference_serves_training():
    model, x = build(CONFIG), torch.randn(2, 9, 128, requires_grad=True)
    with torch.inference_mode():
        model.attn_mask.max()
    model.transformer(x, attn_mask=model.attn_mask).sum().backward()
    assert x.grad.isfinite().all()


def test_causal_attention_without_a_mask_is_causal():
    attention, x = build(CONFIG).transformer.resblocks[0].attn, torch.randn(2, 9, 128)
    mask = torch.ones(9, 9, dtype=torch.bool).triu(1)
    found = attention(x, x, x, need_weights=False, is_causal=True)[0]
    torch.testing.assert_close(
        found, attention(x, x, x, need_weights=False, attn_mask=mask)[0], **TOLERANCE
    )
