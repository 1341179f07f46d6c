"""Ids in the losses of the family, against all scores at once."""

import pytest
import torch

import fastclip
from tests.support import dense_clip
from tests.support.backends import AVAILABLE
from tests.support.dense import ONE_BLOCK, check_exact, check_memory, unit, views
from tests.support.pairwise import cover_pairs

N, D, K = 31, 12, 7
DIRECTIONS = "query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"
PAIRS = torch.eye(N, dtype=torch.bool)


def ids_of(kind):
    """Of rows, of columns, and of K others."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(-9, 4, (N,), generator=generator)
    others = torch.randint(-9, 4, (N,), generator=generator)
    cols = rows.clone()
    if kind == "unequal":  # some pairs have two ids
        cols[::5] = torch.randint(-20, 20, (len(cols[::5]),), generator=generator)
    return {
        "unique": (torch.arange(N).flip(0) * 2**40,) * 2 + (-1 - torch.arange(N),),
        "classes": (rows, rows, others),
        "in order": (rows.sort().values,) * 2 + (others.sort().values,),
        "unequal": (rows, cols, others),
        "one": (torch.zeros(N, dtype=torch.int64),) * 3,
        "all but one": (torch.arange(N).clamp(max=1),) * 2 + (torch.zeros_like(rows),),
    }[kind]


def scores_of(x, y, scale):
    return scale * unit(x) @ unit(y).T


def log_sum(*parts):
    """Of the scores (N, n) of all parts that are seen, (N, n) bool, of each row."""
    return torch.cat([x.masked_fill(~seen, float("-inf")) for x, seen in parts], 1).logsumexp(1)


def cross_entropy(positive, *parts):
    """Of the positive among itself and the scores that are seen."""
    itself = positive[:, None], torch.ones(len(positive), 1, dtype=torch.bool)
    return log_sum(itself, *parts) - positive


def unlike(rows, cols):
    """Which are no pair and not the same."""
    return (rows[:, None] != cols) & ~torch.eye(len(rows), len(cols), dtype=torch.bool)


def without_negatives_left_out(log_sums, positive):
    seen = log_sums != float("-inf")
    return (log_sums[seen] - positive[seen]).sum() / max(1, seen.sum())


def info_nce(x, y, scale, ids):
    scores = scores_of(x, y, scale)
    return cross_entropy(scores.diagonal(), (scores, unlike(*ids[:2]))).mean()


def info_nce_of_given(x, y, negatives, scale, ids):
    positive = scores_of(x, y, scale).diagonal()
    seen = ids[0][:, None] != ids[2]
    return cross_entropy(positive, (scores_of(x, negatives, scale), seen)).mean()


def rows_of_views(z0, z1, scale, ids):
    """positive, and the scores that are seen, of 2 N rows."""
    z, both = torch.cat([z0, z1]), torch.cat([ids[0], ids[0]])
    scores = scores_of(z, z, scale)
    seen = (both[:, None] != both) & ~PAIRS.repeat(2, 2)
    return scores_of(z0, z1, scale).diagonal().repeat(2), scores, seen


def nt_xent(z0, z1, scale, ids):
    positive, scores, seen = rows_of_views(z0, z1, scale, ids)
    return cross_entropy(positive, (scores, seen)).mean()


def dcl(z0, z1, scale, ids, sigma=None):
    positive, scores, seen = rows_of_views(z0, z1, scale, ids)
    if sigma is not None:
        cosines = (unit(z0) * unit(z1)).sum(1).detach()
        positive = (2 - (cosines / sigma).softmax(0) * N).repeat(2) * positive
    return without_negatives_left_out(log_sum((scores, seen)), positive)


def info_loob(x, y, scale, ids):
    scores, seen = scores_of(x, y, scale), unlike(*ids[:2])
    log_sums = torch.cat([log_sum((scores, seen)), log_sum((scores.T, seen.T))])
    return without_negatives_left_out(log_sums, scores.diagonal().repeat(2))


def joint_ranking(queries, documents, hard, scale, ids):
    """All four directions, and hard negatives that queries and documents are compared with."""
    rows, cols, others = ids
    scores = scores_of(queries, documents, scale)
    of_hard = scores_of(queries, hard, scale), rows[:, None] != others
    parts = [
        (scores, unlike(rows, cols)),
        of_hard,
        (scores.T, unlike(cols, rows)),
        (scores.diagonal()[:, None], torch.ones(N, 1, dtype=torch.bool)),  # there twice
        (scores_of(queries, queries, scale), unlike(rows, rows)),
        (scores_of(documents, documents, scale), unlike(cols, cols)),
        (scores_of(documents, hard, scale), unlike(cols, others)),
    ]
    return cross_entropy(scores.diagonal(), *parts).mean()


def harder_ranking(queries, documents, hard, scale, ids, hard_have_ids):
    """Two directions apart, and hardness of all negatives."""
    rows, cols, others = ids
    scores = scores_of(queries, documents, scale)
    of_hard = scores_of(queries, hard, scale)
    seen = rows[:, None] != others if hard_have_ids else torch.ones_like(PAIRS)
    parts = (scores, unlike(rows, cols)), (of_hard, seen)
    harder = [(x + 3.0 * (x / scale).detach(), seen) for x, seen in parts]
    of_queries = cross_entropy(scores.diagonal(), *harder)
    of_documents = cross_entropy(scores.diagonal(), (scores.T, unlike(cols, rows)))
    return (of_queries + of_documents).mean() / 2


def queue(query, key, old, scale, ids):
    scores = scores_of(query, key, scale)
    kept = scores_of(query, old, scale), ids[0][:, None] != ids[2]
    return cross_entropy(scores.diagonal(), (scores, unlike(ids[0], ids[0])), kept).mean()


def by_queue(x, y, old, logit_scale, backend, ids):
    loss = fastclip.QueueLoss(D, N, in_batch=True, with_ids=True, backend=backend).double().eval()
    loss.enqueue(old.detach(), ids=ids[2])
    return loss(x, y, logit_scale=logit_scale, ids=ids[0])


def by_harder_ranking(x, y, z, ids, of_hard, **options):
    return fastclip.multiple_negatives_loss(
        x, y, [z], directions=DIRECTIONS[:2], partition_mode="per_direction",
        hardness_mode="all_negatives", hardness_strength=3.0, hard_negative_ids=of_hard,
        **two(ids, "query_ids", "document_ids"), **options,
    )  # fmt: skip


def two(ids, name, other):
    return {name: ids[0], other: ids[1]}


LOSSES = {
    # name: how many matrices, the loss, the dense form, whether a pair may have two ids
    "info_nce": (2, lambda x, y, ids, **o: fastclip.info_nce_loss(
        x, y, **two(ids, "query_ids", "key_ids"), **o), info_nce, True),
    "info_nce of given": (3, lambda x, y, z, ids, **o: fastclip.info_nce_loss(
        x, y, z, ids=ids[0], negative_ids=ids[2], **o), info_nce_of_given, False),
    "nt_xent": (2, lambda x, y, ids, **o: fastclip.nt_xent_loss(x, y, ids=ids[0], **o),
                nt_xent, False),
    "dcl": (2, lambda x, y, ids, **o: fastclip.dcl_loss(x, y, ids=ids[0], **o), dcl, False),
    "dcl of weights": (2, lambda x, y, ids, **o: fastclip.dcl_loss(
        x, y, ids=ids[0], sigma=0.5, **o), lambda *inputs: dcl(*inputs, sigma=0.5), False),
    "info_loob": (2, lambda x, y, ids, **o: fastclip.info_loob_loss(
        x, y, **two(ids, "image_ids", "text_ids"), **o), info_loob, True),
    "joint ranking": (3, lambda x, y, z, ids, **o: fastclip.multiple_negatives_loss(
        x, y, [z], directions=DIRECTIONS, hard_negative_ids=[ids[2]],
        **two(ids, "query_ids", "document_ids"), **o), joint_ranking, True),
    "harder ranking": (3, lambda x, y, z, ids, **o: by_harder_ranking(x, y, z, ids, None, **o),
                       lambda *inputs: harder_ranking(*inputs, False), True),
    "harder ranking of ids": (
        3, lambda x, y, z, ids, **o: by_harder_ranking(x, y, z, ids, [ids[2]], **o),
        lambda *inputs: harder_ranking(*inputs, True), True),
    "queue": (3, by_queue, queue, False),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, kind, data, scale, backend",
    [
        (name, kind, *problem, backend)
        for name, kind, problem, backend in cover_pairs(
            list(LOSSES),
            ["unique", "classes", "in order", "unequal", "one", "all but one"],
            [("random", 14.3), ("adversarial", 100.0), ("duplicates", 100.0)],
            AVAILABLE,
        )
    ],
)
def test_what_has_the_same_id_is_no_negative(backend, name, kind, data, scale):
    num, loss, dense, may_be_unequal = LOSSES[name]
    ids = ids_of("classes" if kind == "unequal" and not may_be_unequal else kind)
    features = views(num, N, D, data)
    if name == "queue":  # what is in a queue has no gradient
        old = features.pop()
        check_exact(lambda x, y, s: loss(x, y, old, logit_scale=s, backend=backend, ids=ids),
                    lambda x, y, s: dense(x, y, old, s, ids), features, scale)  # fmt: skip
        return
    check_exact(lambda *x: loss(*x[:-1], logit_scale=x[-1], backend=backend, ids=ids),
                lambda *x: dense(*x, ids), features, scale)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_negatives_have_a_value_and_no_gradient(name):
    num, loss, *_ = LOSSES[name]
    features = [x.requires_grad_() for x in views(num, N, D)]
    value = loss(*features, ids=ids_of("one"), logit_scale=14.3, backend="reference")
    gradients = torch.autograd.grad(value, features, allow_unused=True)
    if "ranking" not in name:
        assert value == 0 and all(x is None or not x.any() for x in gradients)
    assert value.isfinite() and all(x is None or x.isfinite().all() for x in gradients)


def test_images_and_texts_without_negatives_are_left_out_of_the_mean():
    x, y = views(2, N, D)
    image_ids, text_ids, _ = ids_of("one")
    text_ids = text_ids.clone()
    text_ids[3] = 1  # the images' only negative
    options = dict(logit_scale=9.0, image_ids=image_ids, text_ids=text_ids, backend="reference")
    losses = fastclip.info_loob_loss(x, y, reduction="none", **options)
    scores, seen = scores_of(x, y, 9.0), unlike(image_ids, text_ids)
    of_rows = torch.stack([log_sum((scores, seen)), log_sum((scores.T, seen.T))])
    of_rows = (of_rows - scores.diagonal()).masked_fill(of_rows.isinf(), 0.0)
    assert of_rows.count_nonzero() == N  # all images but image 3, and text 3
    torch.testing.assert_close(losses, of_rows.mean(0))
    for reduction, expected in (("sum", losses.sum()), ("mean", of_rows.sum() / N)):
        found = fastclip.info_loob_loss(x, y, reduction=reduction, **options)
        torch.testing.assert_close(found, expected)


def test_bad_features_do_not_pass_for_rows_without_negatives():
    x, y = views(2, N, D)
    x[3] = float("nan")
    options = dict(ids=ids_of("classes")[0], backend="reference")
    for name in ("info_nce_loss", "nt_xent_loss", "dcl_loss", "info_loob_loss"):
        assert getattr(fastclip, name)(x, y, **options).isnan()


SAMPLES, GAMMA, RHO = 50, 0.6, 8.0


def dense_sog_clr(images, texts, scale, u, ids):
    """The loss, and the averages of the batch, from those of the last, 0 if there are none."""
    cosines, seen = unit(images) @ unit(texts).T, unlike(*ids[:2])
    sides = (cosines, seen), (cosines.T, seen.T)
    g = torch.stack([
        (others * (scale * (x - x.diagonal()[:, None])).exp()).sum(1) / others.sum(1).clamp(min=1)
        for x, others in sides
    ])  # fmt: skip
    has_some = torch.stack([others.any(1) for _, others in sides])
    new = torch.where(u == 0, g, (1 - GAMMA) * u + GAMMA * g).detach()
    log_u = new[has_some].log() + (g - g.detach())[has_some] / new[has_some]
    value = log_u.sum() / max(1, has_some.sum())
    return (RHO + value) / scale, torch.where(has_some, new, u)


@pytest.mark.parametrize("kind", ["unique", "classes", "unequal", "one", "all but one"])
def test_sog_clr_is_the_mean_over_negatives_alone(backend, kind):
    images, texts = views(2, N, D)
    ids, indices = ids_of(kind), torch.arange(N) + 3
    named = two(ids, "image_ids", "text_ids")
    loss = fastclip.SogCLRLoss(SAMPLES, gamma=GAMMA, rho=RHO, backend=backend).double()
    loss(images[:20].roll(1, 0), texts[:20], indices[:20], 14.3, ids=torch.arange(20))
    u = loss.log_u[:, indices].exp()
    assert u[:, :20].all() and not u[:, 20:].any()
    loss.eval()
    check_exact(
        lambda x, y, s: loss(x, y, indices, s, **named),
        lambda x, y, s: dense_sog_clr(x, y, s, u, ids)[0],
        [images, texts],
        14.3,
    )
    before = loss.log_u.clone()
    loss.train()(images, texts, indices, 14.3, **named)
    _, expected = dense_sog_clr(images, texts, 14.3, u, ids)
    torch.testing.assert_close(loss.log_u[:, indices].exp(), expected, rtol=1e-12, atol=0)
    if kind == "one":
        assert torch.equal(loss.log_u, before)


@pytest.mark.parametrize("kind", ["classes", "unequal"])
def test_a_distillation_looks_at_all_texts(backend, kind):
    images, texts, *teacher = (unit(x) for x in views(4, N, D))
    ids = ids_of(kind)
    scale = torch.tensor(14.3).double()

    def distil(x, y, scale, **given):
        return fastclip.distill_clip_loss(x, y, scale, *teacher, 20.0, backend=backend, **given)

    named = two(ids, "image_ids", "text_ids")
    check_exact(
        lambda *inputs: torch.stack(distil(*inputs, **named)).sum(),
        lambda x, y, s: dense_clip.clip_loss(x, y, s, same=ids[0][:, None] == ids[1])
        + distil(x, y, s)[1],
        [images, texts], 14.3,
    )  # fmt: skip
    module = fastclip.DistillClipLoss(backend=backend)
    found = module(images, texts, scale, *teacher, 20.0, **named)
    torch.testing.assert_close(found, distil(images, texts, scale, **named), rtol=0, atol=0)
    assert found[0] < distil(images, texts, scale)[0] - 1e-6


@pytest.mark.parametrize("how", ["all", "masks", "indices"])
def test_modalities_compare_the_ids_of_each_pair(backend, how):
    image, text, audio = views(3, N, D)
    ids = ids_of("unequal")
    has = torch.arange(N) % 4 != 0
    options, inputs = {}, [image, text, audio]
    of_rows = dict(zip(("image", "text", "audio"), ids, strict=True))
    if how == "masks":
        options = dict(masks={"audio": has})
    elif how == "indices":  # in another order than the samples
        rows = has.nonzero()[:, 0].flip(0)
        options, inputs[2] = dict(indices={"audio": rows}), audio[rows]
        of_rows["audio"] = ids[2][rows]
    if how == "all":
        has = torch.ones_like(has)
    kept = has.nonzero()[:, 0] if how != "indices" else rows

    def loss(image, text, audio, scale):
        return fastclip.modalities_loss(
            dict(image=image, text=text, audio=audio), [("image", "text"), ("image", "audio")],
            logit_scale=scale, backend=backend, ids=of_rows, **options,
        )  # fmt: skip

    def dense(image, text, audio, scale):
        audio = audio if how == "indices" else audio[kept]
        of_texts = dense_clip.clip_loss(
            image, text, scale, same=ids[0][:, None] == ids[1], normalize=True
        )
        of_sounds = dense_clip.clip_loss(
            image[kept], audio, scale, same=ids[0][kept][:, None] == ids[2][kept], normalize=True
        )
        return (of_texts + of_sounds) / 2

    check_exact(loss, dense, inputs, 14.3)


def test_ids_of_all_modalities_may_be_one_tensor():
    image, text = views(2, N, D)
    ids, features = ids_of("classes")[0], dict(image=image, text=text)
    loss = fastclip.ModalitiesLoss([("image", "text")], logit_scale=9.0, backend="reference")
    both = loss(features, ids=dict(image=ids, text=ids))
    assert torch.equal(loss(features, ids=ids), both)
    assert both < loss(features) - 1e-6


def test_modules_take_ids_at_the_call():
    x, y, z = views(3, N, D)
    rows, cols, others = ids_of("unequal")
    calls = [
        (fastclip.InfoNCELoss, fastclip.info_nce_loss, (x, y),
         dict(query_ids=rows, key_ids=cols)),
        (fastclip.InfoNCELoss, fastclip.info_nce_loss, (x, y, z),
         dict(query_ids=rows, negative_ids=others)),
        (fastclip.NTXentLoss, fastclip.nt_xent_loss, (x, y), dict(ids=rows)),
        (fastclip.DCLLoss, fastclip.dcl_loss, (x, y), dict(ids=rows)),
        (fastclip.InfoLOOBLoss, fastclip.info_loob_loss, (x, y),
         dict(image_ids=rows, text_ids=cols)),
        (fastclip.MultipleNegativesLoss, fastclip.multiple_negatives_loss, (x, y, [z]),
         dict(query_ids=rows, document_ids=cols, hard_negative_ids=[others])),
    ]  # fmt: skip
    for module, function, inputs, ids in calls:
        found = module(0.1, backend="reference")(*inputs, **ids)
        assert torch.equal(found, function(*inputs, temperature=0.1, backend="reference", **ids))
        assert not torch.equal(found, module(0.1, backend="reference")(*inputs))


def test_own_hard_negatives_are_left_out_only_if_their_ids_say_so():
    x, y, z = views(3, N, D)
    ids, _, others = ids_of("unique")
    options = dict(reduction="none", backend="reference", ids=ids)
    plain = fastclip.multiple_negatives_loss(x, y, [z], **options)
    apart = fastclip.multiple_negatives_loss(x, y, [z], hard_negative_ids=[others], **options)
    torch.testing.assert_close(apart, plain, rtol=1e-12, atol=0)
    of_own = fastclip.multiple_negatives_loss(x, y, [z], hard_negative_ids=[ids], **options)
    scores, of_hard = scores_of(x, y, 20.0), scores_of(x, z, 20.0)
    expected = cross_entropy(scores.diagonal(), (scores, ~PAIRS), (of_hard, ~PAIRS))
    torch.testing.assert_close(of_own, expected)


@pytest.mark.compilers
def test_ids_are_taken_by_the_compiler():
    ids, (num, loss, *_) = ids_of("unequal"), LOSSES["joint ranking"]
    features = views(num, N, D)

    def of_ids(*ids):
        return loss(*features, ids, logit_scale=14.3, backend="reference")

    compiled = torch.compile(of_ids, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*ids), of_ids(*ids))


@pytest.mark.parametrize("backend", ["chunked"])
@pytest.mark.parametrize("name", ["info_nce of given", "nt_xent", "joint ranking"])
def test_no_tensor_has_the_size_of_all_scores(backend, name):
    num, loss, *_ = LOSSES[name]
    ids = tuple(torch.arange(2048) % 300 for _ in range(3))
    check_memory(
        lambda *x: loss(*x[:-1], ids, logit_scale=x[-1], backend=backend, workspace=ONE_BLOCK),
        views(num, 2048, 8),
    )
