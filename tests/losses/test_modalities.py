"""Several modalities against CLIP's loss of the samples that have both, pair by pair."""

import pytest
import torch

import fastclip
from tests.support.dense import (
    ONE_BLOCK,
    PROBLEMS,
    check_exact,
    check_float32,
    check_memory,
    cross_entropy,
    unit,
    views,
)

N, D = 30, 16
NAMES = "image", "text", "audio"
PAIRS = [("image", "text"), ("image", "audio")]


def dense_pair(x, y, scale):
    scores, own = scale * unit(x) @ unit(y).T, torch.arange(len(x))
    return (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2


def masks_of():
    return {"text": torch.arange(N) % 3 != 0, "audio": torch.arange(N) % 4 == 1}


def loss_by(backend, **options):
    def loss(*inputs):
        *features, scale = inputs
        return fastclip.modalities_loss(
            dict(zip(NAMES, features, strict=True)), PAIRS, logit_scale=scale, backend=backend,
            **options,
        )  # fmt: skip

    return loss


def dense(image, text, audio, scale):
    has = masks_of()
    pairs = [(image[has[name]], x[has[name]]) for name, x in (("text", text), ("audio", audio))]
    return sum(dense_pair(*pair, scale) for pair in pairs) / 2


@pytest.mark.parametrize("kind, scale", PROBLEMS)
def test_missing_ones_by_mask_are_left_out(backend, kind, scale):
    features = views(3, N, D, kind)
    for check in (check_exact, check_float32):
        check(loss_by(backend, masks=masks_of()), dense, features, scale)


def test_missing_ones_by_index_are_those_by_mask():
    features = views(3, N, D)
    by_mask = loss_by("reference", masks=masks_of())(*features, 9.0)
    has = {name: mask.nonzero()[:, 0].flip(0) for name, mask in masks_of().items()}
    kept = [features[0], features[1][has["text"]], features[2][has["audio"]]]
    torch.testing.assert_close(loss_by("reference", indices=has)(*kept, 9.0), by_mask)
    mixed = dict(masks={"text": masks_of()["text"]}, indices={"audio": has["audio"]})
    torch.testing.assert_close(loss_by("auto", **mixed)(*features[:2], kept[2], 9.0), by_mask)
    # What is masked is not looked at.
    features[1][0] = float("nan")
    assert torch.equal(loss_by("reference", masks=masks_of())(*features, 9.0), by_mask)


def test_each_pair_has_its_own_scale_and_loss():
    image, text, audio = views(3, N, D)
    scales = {PAIRS[0]: torch.tensor(9.0, dtype=torch.float64, requires_grad=True), PAIRS[1]: 20.0}
    loss, pairs = fastclip.modalities_loss(
        dict(zip(NAMES, (image, text, audio), strict=True)), PAIRS, logit_scale=scales,
        return_pairs=True,
    )  # fmt: skip
    expected = [dense_pair(image, x, scales[p]) for x, p in zip((text, audio), PAIRS, strict=True)]
    torch.testing.assert_close(loss, sum(expected) / 2)
    for pair, one in zip(PAIRS, expected, strict=True):
        torch.testing.assert_close(pairs[pair].loss, one)
        assert pairs[pair].num_samples == N
    (found,) = torch.autograd.grad(loss, scales[PAIRS[0]])
    torch.testing.assert_close(found, torch.autograd.grad(expected[0], scales[PAIRS[0]])[0] / 2)


@pytest.mark.parametrize("how", ["absent", "masked", "nothing in common"])
def test_a_pair_without_samples_counts_zero_and_is_left_out(how):
    image, text, audio = (x.requires_grad_() for x in views(3, N, D))
    features, options = dict(image=image, text=text), {}
    if how != "absent":
        features["audio"] = audio
    if how == "masked":
        options["masks"] = {"audio": torch.zeros(N, dtype=torch.bool)}
    if how == "nothing in common":
        options["indices"] = {"audio": torch.arange(N) + 1000}
    loss, pairs = fastclip.modalities_loss(
        features, PAIRS, logit_scale=9.0, return_pairs=True, **options
    )
    torch.testing.assert_close(loss, dense_pair(image, text, 9.0))
    assert pairs[PAIRS[1]].num_samples == 0 and pairs[PAIRS[1]].loss == 0
    loss.backward()
    assert how == "absent" or not audio.grad.any()


def test_without_any_pair_the_loss_is_zero_with_gradients():
    image = views(1, N, D)[0].requires_grad_()
    loss = fastclip.ModalitiesLoss(PAIRS, learned=PAIRS)
    value = loss({"image": image})
    value.backward()
    assert value == 0 and not image.grad.any()
    assert [p.grad.item() for p in loss.parameters()] == [0.0, 0.0]


def test_learned_scales_are_parameters_and_resume_to_the_bit():
    features = dict(zip(NAMES, (x.float() for x in views(3, N, D)), strict=True))
    scales = {PAIRS[0]: 9.0, PAIRS[1]: 20.0}
    loss = fastclip.ModalitiesLoss(PAIRS, logit_scale=scales, learned=PAIRS[:1])
    expected = fastclip.modalities_loss(features, PAIRS, logit_scale=scales)
    torch.testing.assert_close(loss(features), expected)
    assert [name for name, _ in loss.named_parameters()] == ["log_scales.image-text"]
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    loss(features).backward()
    optimizer.step()
    resumed = fastclip.ModalitiesLoss(PAIRS, logit_scale=scales, learned=PAIRS[:1])
    resumed.load_state_dict(loss.state_dict())
    assert torch.equal(loss(features), resumed(features))
    assert not torch.equal(loss(features), expected)


def test_no_tensor_has_the_size_of_all_scores():
    check_memory(loss_by("chunked", workspace=ONE_BLOCK), views(3, 2048, 8))


X = torch.ones(4, 3)
TWO = dict(image=X, text=X)


@pytest.mark.parametrize(
    "features, options, error, message",
    [
        (TWO | dict(depth=X), {}, ValueError, "the modality 'depth' is in none of the pairs"),
        (dict(image=X, text=X[1:]), {}, ValueError, "image and text must have the same B"),
        (dict(image=X, text=X[1:]), dict(masks=dict(text=X[1:, 0] > 0)), ValueError,
         "image and text must have the same B"),
        (dict(image=X, text=X[:, 1:]), {}, ValueError, "image and text must have the same D"),
        (dict(image=X, text=X.double()), {}, ValueError, "image and text must have the same dtype"),
        (dict(image=X, text=None), {}, TypeError, r"text must be a torch\.Tensor, got NoneType"),
        ({}, {}, TypeError, "features must be a dict of at least one"),
        (TWO, dict(pairs=[]), ValueError, "pairs must be different pairs"),
        (TWO, dict(pairs=[("image", "image")]), ValueError, "pairs must be different pairs"),
        (TWO, dict(pairs=[("image", "text"), ("text", "image")]), ValueError, "must be different"),
        (TWO, dict(pairs=["image"]), TypeError, "pairs must be pairs of names"),
        (TWO, dict(masks=dict(text=X[:, 0])), ValueError, r"masks\['text'\] must be bool"),
        (TWO, dict(masks=dict(text=X[:3, 0] > 0)), ValueError, r"masks\['text'\] must have shape"),
        (TWO, dict(masks=dict(text=[True])), TypeError, r"masks\['text'\] must be a torch"),
        (TWO, dict(masks=dict(audio=X[:, 0] > 0)), ValueError, "no features, of 'audio'"),
        (TWO, dict(indices=dict(text=torch.zeros(4).long())), ValueError, "one is repeated"),
        (TWO, dict(indices=dict(text=torch.arange(4.0))), ValueError, "must be int64"),
        (TWO, dict(masks=dict(text=X[:, 0] > 0), indices=dict(text=torch.arange(4))), ValueError,
         "only one of masks and indices"),
        (TWO, dict(temperature=0.1, logit_scale=1.0), ValueError, "one number by two names"),
        (TWO, dict(logit_scale={PAIRS[0]: 1.0}), ValueError, "one scale for each of the pairs"),
    ],
)  # fmt: skip
def test_bad_input_is_named(features, options, error, message):
    with pytest.raises(error, match=message):
        fastclip.modalities_loss(features, **(dict(pairs=PAIRS) | options))


def test_bad_options_of_the_module_are_named():
    with pytest.raises(ValueError, match="learned must be some of the pairs"):
        fastclip.ModalitiesLoss(PAIRS, learned=[("text", "audio")])
    with pytest.raises(ValueError, match=r"must have no \. or -"):
        fastclip.ModalitiesLoss([("a-b", "c")], learned=[("a-b", "c")])
    with pytest.raises(TypeError, match="scales of a ModalitiesLoss must be numbers"):
        fastclip.ModalitiesLoss(PAIRS, logit_scale=torch.tensor(1.0))
    with pytest.raises(ValueError, match="reduction must be 'mean'"):
        fastclip.ModalitiesLoss(PAIRS, reduction="none")


def test_under_autocast_towers_may_end_in_two_dtypes():
    x, y = (x.float() for x in views(2, N, D))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = fastclip.modalities_loss(dict(image=x, text=y.bfloat16()), PAIRS)
    expected = fastclip.modalities_loss(dict(image=x, text=y.bfloat16().float()), PAIRS)
    torch.testing.assert_close(mixed, expected)
