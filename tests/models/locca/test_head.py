"""What a token sees, what it costs, and where gradients go, against a dense computation."""

import pytest
import torch
import torch.nn.functional as F

from fastclip.models.locca.head import LocCaHead
from fastclip.models.locca.sequences import (
    caption_sequences,
    grounded_sequences,
    referring_sequences,
    together,
    words_of,
)


@pytest.fixture(scope="module")
def image_tokens(locca, images):
    with torch.no_grad():
        return locca.pair.visual.patch_tokens(images)


def logits_of(head, image_tokens, tokens, hidden):
    """All logits, from PyTorch's own attention, with (R, L, L) masks: True where nothing is seen.

    Images are repeated, as many times as there are texts of them.
    """
    times = len(tokens) // len(image_tokens)
    image = F.linear(image_tokens, head.image_projection.weight, head.image_projection.bias)
    image = image.repeat(times, 1, 1)
    x = head.token_embedding.weight[tokens] + head.positional_embedding[: tokens.shape[1]]
    decoder = head.decoder

    def attended(attn, q, k, mask=None):
        return F.multi_head_attention_forward(
            q.transpose(0, 1), k.transpose(0, 1), k.transpose(0, 1), attn.embed_dim,
            attn.num_heads, attn.in_proj_weight, attn.in_proj_bias, None, None, False, 0.0,
            attn.out_proj.weight, attn.out_proj.bias, need_weights=False,
            attn_mask=None if mask is None else mask.repeat_interleave(attn.num_heads, 0),
        )[0].transpose(0, 1)  # fmt: skip

    for own, cross in zip(decoder.resblocks, decoder.cross_attn, strict=True):
        normed = own.ln_1(x)
        x = x + attended(own.attn, normed, normed, hidden)
        x = x + own.mlp(own.ln_2(x))
        x = x + attended(cross.attn, cross.ln_1(x), cross.ln_1_kv(image))
        x = x + cross.mlp(cross.ln_2(x))
    return decoder.ln_final(x) @ decoder.text_projection


def masks(sequences):
    R, L = sequences.inputs.shape
    hidden = torch.ones(L, L, dtype=torch.bool).triu(1).repeat(R, 1, 1)
    if sequences.parallel is not None:
        hidden[sequences.parallel] = False
    return hidden


@pytest.fixture(scope="module")
def tasks(vocabulary, texts):
    words = words_of(vocabulary, "tokens", texts["tokens"])
    of_regions = words_of(vocabulary, "region_tokens", texts["region_tokens"])
    located = [f(vocabulary, of_regions, texts["boxes"])
               for f in (referring_sequences, grounded_sequences)]  # fmt: skip
    return {
        "captions": caption_sequences(vocabulary, words),
        "some in parallel": caption_sequences(vocabulary, words, texts["parallel"]),
        "boxes": together(*located),
    }


@pytest.mark.parametrize("task", ["captions", "some in parallel", "boxes"])
def test_losses_and_gradients_are_those_of_dense_logits(locca, image_tokens, tasks, task):
    head, sequences = locca.head, tasks[task]
    found = []
    for dense in (False, True):
        image = image_tokens.clone().requires_grad_()
        head.zero_grad()
        if dense:
            logits = logits_of(head, image, sequences.inputs, masks(sequences))
            losses = F.cross_entropy(
                logits.transpose(1, 2), sequences.labels, reduction="none",
                ignore_index=head.vocabulary.pad,
            )  # fmt: skip
        else:
            losses = head(image, sequences)
        assert losses.dtype == torch.float64
        weights = torch.linspace(0.5, 2.0, losses.numel(), dtype=torch.float64)
        (losses.flatten() * weights).sum().backward()
        gradients = [p.grad.clone() for p in head.parameters()]
        found.append([losses.detach(), image.grad, *gradients])
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-11 * max(1.0, other.abs().max().item())
    # What is not asked for costs nothing.
    assert (found[0][0] == 0).equal(sequences.labels == head.vocabulary.pad)


@pytest.mark.fast
def test_a_causal_row_sees_no_future_and_a_parallel_one_no_token_of_its_own(
    locca, vocabulary, image_tokens, texts
):
    head, parallel = locca.head, texts["parallel"]
    words = words_of(vocabulary, "tokens", texts["tokens"])
    with torch.no_grad():
        before = head(image_tokens, caption_sequences(vocabulary, words, parallel))
        changed = words.tokens.clone()
        at = 1  # every text has a word there
        changed[:, at] = 6 + (changed[:, at] - 5) % 56
        assert (changed[:, at] != words.tokens[:, at]).all()
        sequences = caption_sequences(vocabulary, words._replace(tokens=changed), parallel)
        # The same questions, so that only what is read differs.
        after = head(image_tokens, sequences._replace(labels=words.tokens))
    is_same = before == after
    assert is_same[parallel].all()
    assert is_same[~parallel][:, : at + 1].all()
    asked = words.tokens[~parallel] != vocabulary.pad
    assert not is_same[~parallel][:, at + 1 :][asked[:, at + 1 :]].any()


def test_a_parallel_token_sees_those_behind_it(locca, vocabulary, image_tokens, texts):
    head = locca.head
    words = words_of(vocabulary, "tokens", texts["tokens"])
    sequences = caption_sequences(vocabulary, words, torch.ones(5, dtype=torch.bool))
    inputs = sequences.inputs.clone()
    inputs[:, -1] = 7
    with torch.no_grad():
        before = head(image_tokens, sequences)
        after = head(image_tokens, sequences._replace(inputs=inputs))
    assert (before[:, 0] != after[:, 0]).all()


def test_padding_behind_a_text_changes_nothing(locca, vocabulary, image_tokens, texts):
    head, boxes = locca.head, texts["boxes"]
    short = texts["region_tokens"][:, :5].clone()
    short[:, 4] = vocabulary.end_id
    long = torch.cat([short, torch.zeros(5, 4, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        totals = [
            head(image_tokens, of(vocabulary, words_of(vocabulary, "tokens", tokens), boxes)).sum(1)
            for of in (referring_sequences, grounded_sequences)
            for tokens in (short, long)
        ]
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(totals[2], totals[3], rtol=1e-12, atol=0)


def test_checkpointed_blocks_give_the_same_gradients(locca, image_tokens, tasks):
    head, found = locca.head, []
    for enable in (False, True):
        head.set_grad_checkpointing(enable)
        head.zero_grad()
        head(image_tokens, tasks["boxes"]).sum().backward()
        found.append([p.grad.clone() for p in head.parameters()])
    head.set_grad_checkpointing(False)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_does_not_fit_is_refused(locca, vocabulary, image_tokens, tasks):
    with pytest.raises(ValueError, match="a multiple of 3 rows, as many as images, got 5"):
        locca.head(image_tokens[:3], tasks["captions"])
    long = tasks["captions"]
    long = long._replace(inputs=long.inputs.repeat(1, 2), labels=long.labels.repeat(1, 2))
    with pytest.raises(ValueError, match="at most 9 tokens, for which the head was made"):
        locca.head(image_tokens, long)
    with pytest.raises(ValueError, match="image_width must be a whole number from 1"):
        LocCaHead(vocabulary, 0, 9)
    with pytest.raises(ValueError, match="context_length must be a whole number from 1"):
        LocCaHead(vocabulary, 128, 0)
