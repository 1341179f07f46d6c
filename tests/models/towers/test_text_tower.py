from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip.models.towers.text.module import TextTransformer
from tests.support.small_models import SMALL, TEXT, inputs, shake


def tower_of(**changes) -> TextTransformer:
    torch.manual_seed(0)
    tower = TextTransformer(replace(TEXT, **changes), embed_dim=24)
    shake(tower)
    return tower.eval()


def changed_at(tokens, position):
    changed = tokens.clone()
    changed[:, position] = 40
    return changed


@pytest.mark.parametrize(
    "changes, position",
    [
        (dict(pool_type="argmax"), 4),
        (dict(pool_type="eos", eos_id=63), 4),
        (dict(pool_type="last"), 8),
        (dict(pool_type="first", no_causal_mask=True), 0),
    ],
)
def test_tower_is_read_at_its_token(changes, position):
    tower = tower_of(**changes)
    tokens = torch.tensor([[50, 7, 9, 11, 63, 0, 0, 0, 0]])
    tower.text_projection, features = None, tower(tokens)
    read = tower(tokens)
    tower.output_tokens = True
    pooled, states = tower(tokens)
    assert features.shape == (1, 24) and states.shape == (1, 9, 128)
    for found in (read, pooled):
        torch.testing.assert_close(found, states[:, position], rtol=1e-5, atol=1e-6)


def test_first_of_several_end_tokens_is_read():
    tower = tower_of()
    one, two = torch.tensor([[50, 7, 63, 0, 0]]), torch.tensor([[50, 7, 63, 63, 63]])
    torch.testing.assert_close(tower(one), tower(two))


def test_tower_without_mask_sees_what_follows_and_with_mask_does_not():
    tokens = torch.tensor([[50, 7, 9, 11, 63, 0, 0, 0, 0]])
    causal, full = tower_of(), tower_of(no_causal_mask=True)
    assert torch.equal(causal(tokens), causal(changed_at(tokens, 6)))
    assert (full(tokens) - full(changed_at(tokens, 6))).abs().max() > 1e-4


@pytest.mark.parametrize(
    "changes, kind",
    [
        (dict(), nn.Parameter),
        (dict(proj_bias=True), nn.Linear),
        (dict(proj_type="none"), type(None)),
    ],
)
def test_projection_is_what_the_configuration_says(changes, kind):
    tower = tower_of(**changes)
    assert type(tower.text_projection) is kind
    assert tower(torch.tensor([[50, 63]])).shape == (1, 128 if kind is type(None) else 24)


@pytest.mark.parametrize("changes", [{}, {"proj_type": "none"}, {"proj_bias": True}])
def test_groups_hold_every_parameter_and_lock_from_the_tokens_on(changes):
    tower = tower_of(**changes)
    names = {name for name, _ in tower.named_parameters()}
    tower.lock()
    assert not any(p.requires_grad for p in tower.parameters())
    tower.lock(unlocked_layers=len(tower.text_groups()))
    assert {n for n, p in tower.named_parameters() if p.requires_grad} == names
    tower.lock(unlocked_layers=1)
    unlocked = {n for n, p in tower.named_parameters() if p.requires_grad}
    expected = "transformer.resblocks.1" if changes.get("proj_type") else "text_projection"
    assert unlocked and all(n.startswith((expected, "ln_final")) for n in unlocked)


def test_gains_cannot_be_left_out_of_locking():
    with pytest.raises(ValueError, match="freeze_layer_norm"):
        tower_of().lock(freeze_layer_norm=False)


def test_tokens_that_are_no_integers_raise():
    _, tokens = inputs(SMALL["vit"])
    assert torch.equal(tower_of()(tokens.int()), tower_of()(tokens))
    with pytest.raises(TypeError, match=r"int64 or int32, got torch\.float32"):
        tower_of()(tokens.float())
