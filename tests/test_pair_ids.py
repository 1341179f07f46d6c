"""Ids in clip_loss and siglip_loss: against dense logits in float64, and what is refused."""

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.ops.pair_ids import PairIds, in_order, pair_ids, same_pairs
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle
from tests.support import dense_clip
from tests.support.backends import AVAILABLE
from tests.support.inputs import planted_features, square
from tests.support.pairwise import cover_pairs

B, D, H = 41, 12, 5
POSITIVES = "pairs", "ids"


def ids_of(kind):
    """(image_ids, text_ids) of B pairs."""
    generator = torch.Generator().manual_seed(3)
    classes = torch.randint(-9, 4, (B,), generator=generator)
    texts = classes.clone()
    if kind == "unequal":  # some pairs have two ids
        texts[::5] = torch.randint(-20, 20, (len(texts[::5]),), generator=generator)
    return {
        "unique": (torch.arange(B).flip(0) * 2**40,) * 2,
        "classes": (classes, classes),
        "in order": (classes.sort().values,) * 2,
        "unequal": (classes, texts),
        "one": (torch.zeros(B, dtype=torch.int64),) * 2,
    }[kind]


def inputs_of(data, scale, dtype=torch.float64):
    image, text = planted_features(square(B, D), data, dtype)
    scalar = torch.float64 if dtype == torch.float64 else torch.float32
    return image, text, torch.tensor(scale, dtype=scalar)


def value_and_gradients(loss, leaves):
    coefficients = torch.linspace(-1.0, 2.0, loss.numel(), dtype=loss.dtype).view(loss.shape)
    return loss.detach(), torch.autograd.grad((coefficients * loss).sum(), leaves)


def twins_of(*tensors):
    return [[x.clone().requires_grad_() for x in tensors] for _ in range(2)]


KINDS = ["unique", "classes", "in order", "unequal", "one"]
CASES = cover_pairs(
    AVAILABLE, KINDS, list(POSITIVES), [("random", 14.3), ("adversarial", 100.0)], [0.0, 0.2],
    [0.0, 0.1], [False, True], [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0)], ["mean", "none"], [None, 0],
    [False, True],
)  # fmt: skip


@pytest.mark.parametrize(
    "backend, kind, positives, data, smoothing, margin, has_more, directions, reduction, "
    "workspace, normalize",
    CASES,
)
def test_clip_loss_is_that_of_dense_logits(
    backend, kind, positives, data, smoothing, margin, has_more, directions, reduction, workspace,
    normalize,
):  # fmt: skip
    images, texts = ids_of(kind)
    inputs = inputs_of(*data)
    if normalize:
        inputs = 2.0 * inputs[0], 0.3 * inputs[1], inputs[2]
    leaves, twins = twins_of(*inputs)
    extra = weights = None
    if has_more:
        weights = torch.rand(B, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        if directions[0] > 0:
            extra = planted_features(square(H, D), "trained", torch.float64, seed=3)[1]
    given = dict(label_smoothing=smoothing, margin=margin if positives == "pairs" else 0.0,
                 normalize=normalize, reduction=reduction, positives=positives)  # fmt: skip
    named = zip(("image_to_text", "text_to_image"), directions, strict=True)
    found = fastclip.clip_loss(
        *leaves, backend=backend, workspace=workspace, image_ids=images, text_ids=texts,
        directions=dict(named), extra_text_features=extra, weights=weights, **given,
    )  # fmt: skip
    same = images[:, None] == texts
    expected = dense_clip.clip_loss(
        *twins, extra, weights, same=same, direction_weights=directions, **given
    )
    torch.testing.assert_close(
        value_and_gradients(found, leaves), value_and_gradients(expected, twins),
        rtol=1e-10, atol=1e-10,
    )  # fmt: skip


def dense_siglip(image, text, scale, bias, same, positives, reduction):
    logits = scale * image @ text.T + bias
    pairs = torch.eye(B, dtype=torch.bool)
    matches = (same | pairs if positives == "ids" else pairs).double()
    weights = matches * (1 / matches.sum(1, keepdim=True) + 1 / matches.sum(0)) / 2
    others = (~(same | pairs)).double()
    losses = (weights * F.softplus(-logits) + others * F.softplus(logits)).sum(1)
    return losses.mean() if reduction == "mean" else losses


@pytest.mark.parametrize(
    "backend, kind, positives, reduction, workspace",
    cover_pairs(AVAILABLE, KINDS, list(POSITIVES), ["mean", "none"], [None, 0]),
)
def test_siglip_loss_is_that_of_dense_logits(backend, kind, positives, reduction, workspace):
    images, texts = ids_of(kind)
    leaves, twins = twins_of(*inputs_of("trained", 12.0), torch.tensor(-6.0).double())
    found = fastclip.siglip_loss(
        *leaves, image_ids=images, text_ids=texts, positives=positives, reduction=reduction,
        backend=backend, workspace=workspace,
    )  # fmt: skip
    expected = dense_siglip(*twins, images[:, None] == texts, positives, reduction)
    torch.testing.assert_close(
        value_and_gradients(found, leaves), value_and_gradients(expected, twins),
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip


def test_a_wide_class_of_positives_takes_several_blocks(monkeypatch):
    monkeypatch.setattr("fastclip.ops.sigmoid_positives.ROWS", 7)
    images, texts = ids_of("unequal")
    leaves, twins = twins_of(*inputs_of("random", 5.0), torch.tensor(-2.0).double())
    found = fastclip.siglip_loss(*leaves, image_ids=images, text_ids=texts, positives="ids")
    expected = dense_siglip(*twins, images[:, None] == texts, "ids", "mean")
    torch.testing.assert_close(
        value_and_gradients(found, leaves), value_and_gradients(expected, twins),
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip


def test_ids_are_both_and_unique_ids_are_none(backend):
    image, text, scale = inputs_of("random", 14.3)
    images, _ = ids_of("classes")
    options = dict(backend=backend, reduction="none")
    one = fastclip.clip_loss(image, text, scale, ids=images, **options)
    both = fastclip.clip_loss(image, text, scale, image_ids=images, text_ids=images, **options)
    assert torch.equal(one, both)
    unique = fastclip.clip_loss(image, text, scale, ids=ids_of("unique")[0], **options)
    plain = fastclip.clip_loss(image, text, scale, **options)
    torch.testing.assert_close(unique, plain, rtol=1e-12, atol=0)
    assert (one < plain - 1e-6).any()


@pytest.mark.parametrize("positives", POSITIVES)
def test_statistics_look_at_negatives_alone(backend, positives):
    image, text, scale = inputs_of("trained", 6.0)
    images, texts = ids_of("unequal")
    text[3], texts[3] = image[20], images[20]  # nearest to image 20, but the same
    _, stats = fastclip.clip_loss(
        image, text, scale, image_ids=images, text_ids=texts, positives=positives,
        return_stats=True, backend=backend,
    )  # fmt: skip
    logits = scale * image @ text.T
    pairs = torch.eye(B, dtype=torch.bool)
    same = (images[:, None] == texts) & ~pairs
    others = logits.masked_fill(same | pairs, float("-inf"))
    expected = fastclip.functional.ClipStats(
        (logits.diagonal() > others.amax(1)).double().mean(),
        (logits.diagonal() > others.amax(0)).double().mean(),
        logits.diagonal().mean(),
        others.max(),
        same.sum(),
    )
    torch.testing.assert_close(stats, expected, rtol=1e-12, atol=0)


def test_a_batch_of_one_id_has_no_negatives(backend):
    leaves = [x.requires_grad_() for x in inputs_of("random", 14.3)]
    ids = ids_of("one")[0]
    loss, stats = fastclip.clip_loss(*leaves, ids=ids, return_stats=True, backend=backend)
    assert loss == 0 and stats.image_to_text_accuracy == 1 and stats.same_pairs == B * (B - 1)
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(loss, leaves))


def test_a_pair_alone_among_its_id_keeps_the_digits_of_its_loss(backend):
    """As a positive of its own: the mean over one is that one."""
    generator = torch.Generator().manual_seed(0)
    image = torch.linalg.qr(torch.randn(B, B, generator=generator, dtype=torch.float64))[0]
    loss = fastclip.clip_loss(
        image, image, 40.0, ids=torch.arange(B), positives="ids", backend=backend
    )
    true = (B - 1) * torch.tensor(-40.0).double().exp()
    torch.testing.assert_close(loss, true, rtol=1e-10, atol=0)


def test_pairs_in_order_on_the_host_stay_in_their_places():
    image, text, scale = inputs_of("random", 14.3)
    rectangle = Rectangle(image, text, scale, MAIN_DIAGONAL)
    images, texts = ids_of("in order")
    here = in_order(rectangle, images, texts)
    assert here.order is None and here.rectangle.rows is image and here.rectangle.cols is text
    images, texts = ids_of("unequal")
    here = in_order(rectangle, images, texts)
    assert (here.ids.cols.diff() >= 0).all()
    assert torch.equal(here.restored(here.ids.rows), images)
    begin, end = here.rectangle.excluded
    for i in range(B):
        inside = torch.arange(begin[i], end[i])
        assert torch.equal(inside, (here.ids.cols == here.ids.rows[i]).nonzero()[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_what_is_the_same(kind):
    images, texts = ids_of(kind)
    same = (images[:, None] == texts).fill_diagonal_(False)
    assert same_pairs(PairIds(images, texts)) == same.sum()


def test_ids_are_taken_by_vmap_and_by_the_compiler():
    image, text, scale = inputs_of("random", 14.3)
    ids = ids_of("classes")[0]
    several = torch.stack((ids, ids_of("one")[0]))

    def loss_of(ids):
        return fastclip.clip_loss(image, text, scale, ids=ids, backend="reference")

    found = torch.func.vmap(loss_of)(several)
    torch.testing.assert_close(found, torch.stack([loss_of(x) for x in several]))
    compiled = torch.compile(loss_of, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), loss_of(ids))


IDS = torch.zeros(B, dtype=torch.int64)


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"ids": [0] * B}, TypeError, "ids must be a torch.Tensor, got list"),
        ({"ids": IDS[1:]}, ValueError, r"ids must have shape \(41,\), one for each .* got \(40,\)"),
        ({"ids": IDS[:, None]}, ValueError, r"ids must have shape \(41,\), .* got \(41, 1\)"),
        ({"ids": IDS.int()}, ValueError, "ids must be int64, got torch.int32"),
        ({"ids": IDS.double()}, ValueError, "ids must be int64, got torch.float64"),
        ({"ids": IDS.to("meta")}, ValueError, "features' device cpu or on the CPU, got meta"),
        ({"ids": IDS, "text_ids": IDS}, ValueError, "image_ids and text_ids must be None with"),
        ({"image_ids": IDS}, ValueError, "must be given together, but text_ids is None"),
        ({"text_ids": IDS}, ValueError, "must be given together, but image_ids is None"),
        ({"image_ids": IDS, "text_ids": IDS.int()}, ValueError, "text_ids must be int64"),
        ({"positives": "ids"}, ValueError, "positives='ids' needs ids, or image_ids and text_ids"),
        ({"positives": "labels"}, ValueError, "positives must be one of .*, got 'labels'"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
@pytest.mark.parametrize("loss", ["clip_loss", "siglip_loss"])
def test_bad_ids_are_refused_by_name(loss, given, error, message):
    image, text, scale = inputs_of("random", 10.0)
    with pytest.raises(error, match=message):
        getattr(fastclip, loss)(image, text, scale, **given)


def test_a_margin_of_several_positives_is_refused():
    image, text, scale = inputs_of("random", 10.0)
    with pytest.raises(ValueError, match="margin must be 0 with positives='ids'"):
        fastclip.clip_loss(image, text, scale, ids=IDS, positives="ids", margin=0.1)
    assert pair_ids(image, None, None, None) is None


@pytest.mark.parametrize("name", ["ClipLoss", "SigLipLoss"])
def test_modules_take_ids_at_the_call(name):
    image, text, scale = inputs_of("random", 10.0)
    images, texts = ids_of("unequal")
    function = fastclip.clip_loss if name == "ClipLoss" else fastclip.siglip_loss
    for positives in POSITIVES:
        module = getattr(fastclip, name)(positives=positives)
        assert ("positives" in repr(module)) == (positives == "ids" and name == "ClipLoss")
        found = module(image, text, scale, image_ids=images, text_ids=texts)
        given = dict(image_ids=images, text_ids=texts, positives=positives)
        assert torch.equal(found, function(image, text, scale, **given))
    with pytest.raises(ValueError, match="positives must be one of"):
        getattr(fastclip, name)(positives="labels")


def test_every_prefix_has_the_ids():
    image, text, scale = inputs_of("random", 10.0)
    ids = ids_of("classes")[0]
    found = fastclip.MatryoshkaClipLoss((12, 5))(image, text, scale, ids=ids)
    expected = sum(
        fastclip.clip_loss(image[:, :d], text[:, :d], scale, ids=ids, normalize=True)
        for d in (12, 5)
    )
    torch.testing.assert_close(found, expected)


def siglip_with_positives(image, text, images, texts):
    return fastclip.siglip_loss(
        image, text, 10.0, -5.0, image_ids=images, text_ids=texts, positives="ids"
    )


def test_positives_of_a_sigmoid_keep_no_mask_for_the_backward():
    """Not even where the ids of images and texts lie in no common order."""
    N = 512
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randint(0, 30, (N,), generator=generator) for _ in range(2))
    image, text = (torch.randn(N, 4, generator=generator, requires_grad=True) for _ in range(2))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        siglip_with_positives(image, text, images, texts).backward()
    assert kept and max(kept) <= 4 * N


@pytest.mark.filterwarnings("ignore:torch.searchsorted:UserWarning")  # of what vmap makes of ids
def test_transforms_take_the_positives_of_a_sigmoid():
    image, text, _ = inputs_of("random", 10.0)
    images, texts = ids_of("unequal")
    found = torch.func.grad(siglip_with_positives)(image, text, images, texts)
    leaf = image.clone().requires_grad_()
    siglip_with_positives(leaf, text, images, texts).backward()
    torch.testing.assert_close(found, leaf.grad)
    several = torch.stack((images, images + 1))
    with pytest.raises(RuntimeError, match=r"under torch\.func\.vmap the ids must be the same"):
        torch.func.vmap(lambda ids: siglip_with_positives(image, text, ids, texts))(several)


@pytest.mark.filterwarnings("error")
def test_strided_ids_are_taken_without_a_warning():
    image, text, scale = inputs_of("random", 10.0)
    table = torch.stack((torch.arange(B) // 3, torch.arange(B)), 1)
    found = fastclip.clip_loss(image, text, scale, ids=table[:, 0])
    assert torch.equal(found, fastclip.clip_loss(image, text, scale, ids=torch.arange(B) // 3))
