"""A pair of towers with a decoder of captions and boxes: what it returns, writes and refuses."""

import copy

import pytest
import torch

import fastclip
from fastclip.models.locca.boxes import dequantize_boxes, quantize_boxes
from fastclip.models.locca.sequences import words_of
from fastclip.models.locca.writer import only_bins, only_words
from tests.support.small_models import COCA, NAFLEX, VIT, build, inputs


@pytest.mark.fast
def test_features_are_the_pairs_and_every_token_is_counted(locca, images, texts):
    with torch.no_grad():
        found = locca(images, texts)
        features, of_texts, scale, bias = locca.pair(images, texts["tokens"])
    torch.testing.assert_close(found["image_features"], features, rtol=1e-12, atol=1e-14)
    assert torch.equal(found["text_features"], of_texts)
    assert torch.equal(found["logit_scale"], scale) and torch.equal(found["logit_bias"], bias)
    v = locca.head.vocabulary
    num, of_regions = (words_of(v, n, texts[n]).lengths for n in ("tokens", "region_tokens"))
    assert found["caption_tokens"].tolist() == (num + 4 + 4 + of_regions).tolist()
    assert found["caption_losses"].shape == (5,) and (found["caption_losses"] > 0).all()


def test_each_sample_is_for_itself(locca, images, texts):
    with torch.no_grad():
        whole = locca(images, texts)
        part = locca(images[2:4], {name: value[2:4] for name, value in texts.items()})
    for name in ("caption_losses", "caption_tokens", "image_features", "text_features"):
        torch.testing.assert_close(part[name], whole[name][2:4], rtol=1e-12, atol=1e-14)


def test_captions_in_parallel_cost_something_else_and_others_the_same(locca, images, texts):
    with torch.no_grad():
        some = locca(images, texts)["caption_losses"]
        none = locca(images, without(texts, "parallel"))["caption_losses"]
    is_same = (some - none).abs() < 1e-12 * some
    assert torch.equal(is_same, ~texts["parallel"])


@pytest.mark.parametrize("output_dict", [False, True])
def test_towers_that_return_tuples_or_dicts(output_dict, vocabulary, texts):
    pair = build(VIT)
    pair.output_dict = output_dict
    model = fastclip.LocCa(pair, fastclip.LocCaHead(vocabulary, 128, 9, 32, 2, 1))
    found = model(inputs(VIT, 5)[0], texts | {"boxes": texts["boxes"].float()})
    assert "logit_bias" not in found and found["text_features"].shape == (5, 48)
    tokens = model._seen(inputs(VIT, 5)[0])[1]
    assert torch.equal(tokens, pair.visual.patch_tokens(inputs(VIT, 5)[0]))


def greedy(locca, images, prefix, tokens_of_row, num_coordinates):
    """One row, one token at a time, each from all logits of that row alone, looked at by hand."""
    head, v = locca.head, locca.head.vocabulary
    image_tokens = locca.pair.visual.patch_tokens(images)
    tokens = [prefix, *tokens_of_row]
    bins = []
    while len(bins) < num_coordinates:
        logits = head.next_logits(image_tokens, torch.tensor([tokens]))[0]
        least = bins[len(bins) - 2] if len(bins) >= 2 else 0
        best = max(range(least, v.bins), key=lambda b: logits[v.first_bin + b].item())
        bins.append(best)
        tokens.append(v.first_bin + best)
    return bins, tokens


@torch.no_grad()
def test_predicted_boxes_are_the_greedy_ones(locca, images, texts):
    found = locca.predict_boxes(images, texts["region_tokens"])
    assert found.shape == (5, 4) and found.dtype == torch.float32
    v = locca.head.vocabulary
    words = words_of(v, "texts", texts["region_tokens"])
    assert len(set(words.lengths.tolist())) > 1  # boxes begin at several places
    for row in range(5):
        of_row = words.tokens[row, : words.lengths[row]].tolist()
        bins, _ = greedy(locca, images[row : row + 1], v.aref, of_row, 4)
        assert torch.equal(found[row], dequantize_boxes(torch.tensor(bins), v.bins))
    assert len(set(map(tuple, found.tolist()))) > 1


@torch.no_grad()
def test_descriptions_are_a_box_and_words(locca, images):
    v = locca.head.vocabulary
    boxes, tokens = locca.describe(images)
    for row in range(5):
        bins, known = greedy(locca, images[row : row + 1], v.gcap, [], 4)
        assert torch.equal(boxes[row], dequantize_boxes(torch.tensor(bins), v.bins))
        image_tokens = locca.pair.visual.patch_tokens(images[row : row + 1])
        logits = locca.head.next_logits(image_tokens, torch.tensor([known]))[0]
        allowed = [i for i in range(v.num_words) if i != v.start_id]
        assert tokens[row, 1] == max(allowed, key=lambda i: logits[i].item())
    check_texts(v, tokens, 9)


def check_texts(v, tokens, longest):
    assert (tokens[:, 0] == v.start_id).all() and tokens.shape[1] <= longest
    words = words_of(v, "tokens", tokens)  # every text has an end
    for row, length in zip(tokens, words.lengths, strict=True):
        assert (row[1 : 1 + length] != v.start_id).all()
        assert (row[1 + length :] == v.pad_id).all()


def test_only_bins_and_words_are_written_whatever_the_logits_are(locca, images, texts):
    v = locca.head.vocabulary
    model = copy.deepcopy(locca)
    with torch.no_grad():  # all that is not to be written is what the model wants to write
        model.head.decoder.ln_final.bias.fill_(1.0)
        wanted = model.head.decoder.text_projection
        wanted[:, [v.pad, v.mask, v.cap, v.aref, v.gcap, v.start_id]] += 5.0
        boxes = model.predict_boxes(images, texts["tokens"])
        described, captions = model.describe(images), model.caption(images)
    for found in (boxes, described.boxes):
        again = dequantize_boxes(quantize_boxes(found, v.bins), v.bins)  # refuses reversed ones
        assert torch.equal(again, found)
    check_texts(v, described.tokens, 9)
    check_texts(v, captions, 9)


def test_masks_of_what_may_be_written_by_hand(vocabulary):
    logits = torch.zeros(2, vocabulary.size)
    first, bins = vocabulary.first_bin, vocabulary.bins
    for before, least in (
        ([[], []], [0, 0]), ([[3], [9]], [0, 0]), ([[3, 5], [9, 1]], [3, 9]),
        ([[3, 5, 4], [9, 1, 9]], [5, 1]),
    ):  # fmt: skip
        known = torch.tensor(before, dtype=torch.int64).view(2, -1)
        found = only_bins(vocabulary, logits, known)
        for row in range(2):
            finite = found[row].isfinite().nonzero()[:, 0].tolist()
            assert finite == list(range(first + least[row], first + bins))
    finite = only_words(vocabulary, logits)[0].isfinite().nonzero()[:, 0].tolist()
    assert finite == [0, 1, 2, 3, 4, *range(6, 64)]


def test_a_word_that_the_tokenizer_pads_with_too_is_written(locca, images):
    model, v = copy.deepcopy(locca), locca.head.vocabulary
    with torch.no_grad():  # it is all that the model wants to write
        model.head.decoder.ln_final.bias.fill_(1.0)
        model.head.decoder.text_projection[:, v.pad_id] += 5.0
    assert v.pad_id == 0
    assert (model.caption(images)[:, 1:-1] == v.pad_id).all()


def test_padded_batches_of_patches_are_refused(locca, vocabulary, texts):
    pair = build(NAFLEX)
    model = fastclip.LocCa(pair, fastclip.LocCaHead(vocabulary, 128, 9, 32, 2, 1))
    texts = texts | {"boxes": texts["boxes"].float()}
    images = inputs(NAFLEX, 5)[0]
    batch = fastclip.collate_patches(list(images), patch_size=8)
    for call in (
        lambda images: model(images, texts),
        lambda images: model.predict_boxes(images, texts["tokens"]),
        model.describe,
        model.caption,
    ):
        with pytest.raises(TypeError, match=r"^images must be .* mapping with pixel_values"):
            call(batch)
        call(images)  # which have one size, and no padding


def test_a_model_in_training_is_asked_as_in_evaluation(locca, images, texts):
    model = copy.deepcopy(locca).train()
    model.pair.visual.eval()
    modes = [module.training for module in model.modules()]
    boxes = model.predict_boxes(images, texts["tokens"])
    assert torch.equal(boxes, locca.predict_boxes(images, texts["tokens"]))
    assert not boxes.requires_grad
    assert [module.training for module in model.modules()] == modes


def test_grad_checkpointing_reaches_all_parts(locca):
    model = copy.deepcopy(locca)
    model.set_grad_checkpointing()
    on = [m for m in model.modules() if getattr(m, "grad_checkpointing", False)]
    assert model.head.decoder in on and len(on) >= 3


def test_autocast_stays_near_and_returns_float32(locca, images, texts):
    model = copy.deepcopy(locca).float()
    texts = texts | {"boxes": texts["boxes"].float()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(images.float(), texts)["caption_losses"]
    with torch.no_grad():
        expected = locca(images, texts)["caption_losses"]
    assert found.dtype == torch.float32
    assert ((found - expected).abs() < 0.01 * expected).all()


def without(texts, name):
    return {key: value for key, value in texts.items() if key != name}


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda t: t["tokens"], TypeError, "texts must be a mapping with tokens, region_tokens"),
        (lambda t: without(t, "boxes"), ValueError, "texts must have boxes, got"),
        (lambda t: t | {"box": t["boxes"]}, ValueError, "may have only .*, got 'box'"),
        (lambda t: t | {"boxes": t["boxes"][:4]}, ValueError, "boxes must have 5 rows"),
        (lambda t: t | {"boxes": t["boxes"][:, None]}, ValueError, r"boxes must be \(B, 4\)"),
        (lambda t: t | {"boxes": 1 + t["boxes"]}, ValueError, "boxes must be .x0, y0, x1, y1. "),
        (lambda t: t | {"parallel": t["parallel"].long()}, TypeError, r"parallel must be \(B,\) b"),
        (lambda t: t | {"region_tokens": t["region_tokens"] * 0 + 6}, ValueError,
         "region_tokens must begin with start_id 5; row 0 begins with 6"),
    ],
)  # fmt: skip
def test_texts_that_are_not_whole_are_refused(locca, images, texts, change, error, message):
    with pytest.raises(error, match=message):
        locca(images, change(texts))


def test_other_models_and_other_numbers_of_texts_are_refused(locca, images, texts, vocabulary):
    with pytest.raises(TypeError, match="pair must be a model of fastclip's, got Linear"):
        fastclip.LocCa(torch.nn.Linear(2, 2), locca.head)
    with pytest.raises(TypeError, match="got a model that writes captions"):
        fastclip.LocCa(build(COCA), locca.head)
    lines = torch.nn.Linear(8, 4), torch.nn.Linear(8, 4)
    with pytest.raises(TypeError, match="image tower with patch tokens, got Linear"):
        fastclip.LocCa(fastclip.TwoTower(*lines), locca.head)
    with pytest.raises(ValueError, match="images must have at least one row"):
        locca(images[:0], {name: part[:0] for name, part in texts.items()})
    with pytest.raises(ValueError, match="texts must have 5 rows, as many as images, got 4"):
        locca.predict_boxes(images, texts["tokens"][:4])
