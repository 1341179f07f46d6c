import pytest
import torch
from torch import nn

from fastclip.models.parts.transformer import Attention, Transformer


def copied_into_torch(attention, width, heads):
    theirs = nn.MultiheadAttention(width, heads, batch_first=True)
    theirs.load_state_dict(attention.state_dict())
    return theirs.eval()


def causal_mask(num_tokens):
    return torch.full((num_tokens, num_tokens), float("-inf")).triu(1)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torch_multihead_attention(causal):
    torch.manual_seed(0)
    attention = Transformer(width=24, layers=1, heads=3, causal=causal).resblocks[0].attn
    nn.init.normal_(attention.in_proj_bias)
    theirs = copied_into_torch(attention, 24, 3)
    x = torch.randn(2, 7, 24)
    mask = torch.ones(7, 7).triu(1).bool() if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
    found, _ = attention(x, x, x, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_causal_transformer_does_not_see_the_future():
    torch.manual_seed(0)
    transformer = Transformer(width=16, layers=2, heads=2, causal=True)
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4, 0] += 1  # not all of it: layer normalisation would take that back
    mask = causal_mask(6)
    before, after = transformer(x, mask), transformer(changed, mask)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert ((before - after)[:, 4:].abs().amax(-1) > 1e-4).all()


def test_transformer_without_mask_sees_everything():
    torch.manual_seed(0)
    transformer = Transformer(width=16, layers=1, heads=2)
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4, 0] += 1  # not all of it: layer normalisation would take that back
    assert ((transformer(x) - transformer(changed)).abs().amax(-1) > 1e-5).all()


def test_every_attention_weight_is_initialised():
    torch.manual_seed(0)
    attention = Transformer(width=64, layers=2, heads=4).resblocks[1].attn
    assert isinstance(attention, Attention)
    assert attention.in_proj_weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert attention.out_proj.weight.std().item() == pytest.approx(64**-0.5 * 4**-0.5, rel=0.05)
    assert not attention.out_proj.bias.any()


@pytest.mark.parametrize("settings", [{}, {"causal": True}, {"ls_init_value": 0.3, "layers": 1}])
def test_reading_one_token_equals_reading_it_from_all_with_its_gradients(settings):
    torch.manual_seed(0)
    transformer = Transformer(**{"width": 32, "layers": 3, "heads": 4, **settings}).double()
    x = torch.randn(5, 7, 32, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([0, 6, 3, 3, 1])
    weights = torch.randn(5, 32, dtype=torch.float64)
    inputs = [x, *transformer.parameters()]
    mask = causal_mask(7) if settings.get("causal") else None
    whole = transformer(x, mask)[torch.arange(5), positions]
    read = transformer(x, mask, read_at=positions)
    torch.testing.assert_close(read, whole, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad((whole * weights).sum(), inputs)
    found = torch.autograd.grad((read * weights).sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("read_at", [None, torch.tensor([2, 0])])
def test_checkpointing_changes_no_gradient_and_keeps_less(read_at):
    torch.manual_seed(0)
    transformer = Transformer(width=32, layers=4, heads=4)
    x = torch.randn(2, 7, 32)

    def run():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t.nbytes) or t, lambda t: t
        ):
            out = transformer(x, read_at=read_at)
        return torch.autograd.grad(out.square().sum(), [*transformer.parameters()]), sum(kept)

    plain, plain_bytes = run()
    transformer.grad_checkpointing = True
    checkpointed, checkpointed_bytes = run()
    torch.testing.assert_close(checkpointed, plain, rtol=0, atol=0)
    assert checkpointed_bytes < plain_bytes / 5
