"""Texts by length and without padding: the features and gradients of the texts as they came."""

from dataclasses import replace

import pytest
import torch

from fastclip import ClipLoss
from fastclip.models.padding import without_padding
from fastclip.train.step.cached import CachedStep
from fastclip.train.step.text_order import order_by_length
from tests.support.small_models import SMALL, VIT, build

CONTEXT, END = 24, 63
LONG = replace(VIT, text_cfg=replace(VIT.text_cfg, context_length=CONTEXT))
KINDS = {
    "argmax": LONG,
    "eos": replace(LONG, text_cfg=replace(LONG.text_cfg, pool_type="eos", eos_id=5)),
    "custom_text": replace(LONG, custom_text=True),
}


def texts(lengths, end=END):
    """Random texts of so many tokens, the end token included, in padding of zeros."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(len(lengths), CONTEXT, dtype=torch.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[: length - 1] = torch.randint(6, 60, (length - 1,), generator=generator)
        row[length - 1] = end
    return tokens


LENGTHS = [5, 24, 2, 9, 8, 17, 3, 11, 1]


class Wrapper(torch.nn.Module):
    """As DistributedDataParallel around a part of a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, tokens):
        return self.module(tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_gradients_are_those_of_texts_as_they_came(kind, budget):
    model = build(KINDS[kind]).double().train()
    tokens = texts(LENGTHS, end=5 if kind == "eos" else END)
    images = torch.randn(len(LENGTHS), 3, 32, 32, dtype=torch.float64)
    loss = ClipLoss(backend="reference")
    value = loss(*model(images, tokens)[:3])
    value.backward()
    expected = [p.grad for p in model.parameters()]
    step = CachedStep(model, loss, 4, budget)
    for _ in range(2):  # the first measures a micro-batch that is not cut
        model.zero_grad()
        result = step(images, tokens)
        assert result.loss.item() == pytest.approx(value.item(), rel=1e-12)
        for p, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)


def test_texts_go_longest_first_and_are_cut_to_multiples_of_eight():
    tokens = texts(LENGTHS)
    order = order_by_length(build(LONG), tokens.split(4))
    assert [len(part) for part in order.texts] == [4, 4, 1]
    assert order.lengths == [24, 8, 8] and order.cut(1).shape == (4, 8)
    lengths = torch.tensor(LENGTHS)[order.places].tolist()
    assert lengths == sorted(LENGTHS, reverse=True)
    assert torch.equal(torch.cat(order.texts), tokens[order.places])
    rows = torch.randn(len(LENGTHS), 3)
    assert torch.equal(order.put_back(order.take(rows)), rows)
    assert torch.equal(order.take(tokens), torch.cat(order.texts))


def test_towers_are_given_cut_texts_and_what_is_measured_is_not_cut():
    model = build(LONG).train()
    seen = []
    forward = model.text_features
    model.text_features = lambda tokens: seen.append(tuple(tokens.shape)) or forward(tokens)
    short = texts([3, 7, 2, 8, 9, 4])
    images = torch.randn(6, 3, 32, 32)
    step = CachedStep(model, ClipLoss(), 3)
    first = step(images, short)
    assert seen[:2] == [(3, 24), (3, 8)]
    seen.clear()
    again = step(images, short)
    assert seen == [(3, 16), (3, 8)] * 2
    assert again.kept_bytes == first.kept_bytes


@pytest.mark.parametrize("name", ["siglip", "first"])
def test_towers_in_which_all_tokens_meet_get_all_of_them(name):
    model = build(SMALL[name])
    tokens = torch.randint(1, 60, (6, SMALL[name].text_cfg.context_length))
    order = order_by_length(model, tokens.split(3))
    assert order.lengths == [tokens.shape[1]] * 2
    assert order.places.tolist() == list(range(6))  # nothing is moved


def test_encoders_that_do_not_say_how_long_texts_are_get_them_as_they_came():
    tokens = texts(LENGTHS)
    assert order_by_length(torch.nn.Linear(1, 1), tokens.split(4)) is None
    parts = [{"input_ids": tokens}, {"input_ids": tokens}]
    assert order_by_length(build(LONG), parts) is None
    assert order_by_length(build(LONG), [tokens[:4], tokens[4:, :20]]) is None


def test_texts_that_are_only_encoded_are_cut_to_the_longest():
    model, tokens = build(LONG), texts([5, 11, 3])
    assert without_padding(model, tokens).shape == (3, 16)
    torch.testing.assert_close(
        model.encode_text(without_padding(model, tokens)), model.encode_text(tokens)
    )
    assert without_padding(torch.nn.Linear(1, 1), tokens) is tokens
    assert without_padding(build(SMALL["siglip"]), tokens[:, :9]).shape == (3, 9)


def test_text_tower_that_is_wrapped_or_replaced_gets_texts_as_they_came():
    model = build(KINDS["custom_text"]).double().train()
    images, tokens = torch.randn(9, 3, 32, 32, dtype=torch.float64), texts(LENGTHS)
    loss = ClipLoss(backend="reference")
    expected = loss(*model(images, tokens)[:3]).item()
    model.text = Wrapper(model.text)
    assert order_by_length(model, [tokens]) is None
    assert without_padding(model, tokens) is tokens
    assert CachedStep(model, loss, 4)(images, tokens).loss.item() == pytest.approx(expected)
