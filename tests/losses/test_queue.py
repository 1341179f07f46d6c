"""A queue of keys: its scores written out, what it holds, and its state."""

import pytest
import torch

import fastclip
from tests.support.backends import AVAILABLE
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
from tests.support.pairwise import cover_pairs

N, D, K = 37, 16, 50


def dense(query, key, scale, queue, in_batch=False):
    query, key = unit(query), unit(key)
    scores = query @ key.T if in_batch else (query * key).sum(1, keepdim=True)
    own = torch.arange(len(query)) if in_batch else torch.zeros(len(query), dtype=torch.long)
    return cross_entropy(scale * torch.cat([scores, query @ unit(queue).to(query).T], 1), own)


def made(backend="auto", size=K, dtype=torch.float64, fill=None, dim=D, **options):
    loss = fastclip.QueueLoss(dim, size, backend=backend, **options).to(dtype).eval()
    if fill is not None:
        loss.enqueue(*(x.to(dtype) for x in fill))
    return loss


@pytest.mark.parametrize(
    "backend, problem, in_batch", cover_pairs(AVAILABLE, PROBLEMS, [False, True]), ids=str
)
def test_it_is_the_cross_entropy_with_all_keys(backend, problem, in_batch):
    kind, scale = problem
    query, key, old = views(3, N, D, kind)
    check(check_exact, torch.float64, backend, in_batch, scale, query, key, old)
    check(check_float32, torch.float32, backend, in_batch, scale, query, key, old)


def check(compare, dtype, backend, in_batch, scale, query, key, old):
    loss = made(backend, dtype=dtype, fill=[old], in_batch=in_batch)
    compare(
        lambda q, k, s: loss(q, k, logit_scale=s),
        lambda q, k, s: dense(q, k, s, old.to(dtype), in_batch),
        [query, key],
        scale,
    )


def test_both_directions_have_a_queue_of_their_own(backend):
    features = views(4, N, D)
    old, reverse_old = views(2, 20, D, "trained")
    loss = made(backend, fill=[old, reverse_old], symmetric=True, in_batch=True)

    def both(q, k, rq, rk, s):
        return (dense(q, k, s, old, True) + dense(rq, rk, s, reverse_old, True)) / 2

    check_exact(loss, both, features, 14.3)


def test_no_tensor_has_the_size_of_all_scores():
    query, key, old = views(3, 2048, 8)
    loss = made("chunked", 2048, torch.float32, [old], dim=8, workspace=ONE_BLOCK, in_batch=True)
    check_memory(lambda q, k, s: loss(q, k, logit_scale=s), [query, key])


def test_the_queue_has_the_newest_keys_after_each_call():
    keys = views(1, 40, 4)[0].float()
    loss = fastclip.QueueLoss(4, 7)
    put = 0
    for size in (3, 3, 5, 1, 9, 7, 2):  # wraps, and more than fits
        expected = 0.0
        batch = keys[put : put + size]
        if put:
            expected = dense(batch, batch, 5.0, keys[:put][-7:])
        torch.testing.assert_close(loss(batch, batch, logit_scale=5.0), torch.as_tensor(expected))
        put += size
        kept = loss.queue.kept(keys)
        newest = unit(keys[:put][-7:])
        assert len(kept) == len(newest) and loss.queue.cursor == put % 7
        torch.testing.assert_close(kept.sort(0).values, newest.sort(0).values)


def test_without_negatives_the_loss_is_zero(backend):
    query, key = (x.requires_grad_() for x in views(2, 5, D))
    loss = made(backend)(query, key)
    loss.backward()
    assert loss == 0 and not query.grad.any() and not key.grad.any()


def test_evaluation_leaves_the_queue_and_training_does_not():
    query, key = views(2, 5, D)
    loss = made()
    loss(query, key)
    assert loss.queue.num_kept == 0
    loss.train()(query, key)
    assert loss.queue.num_kept == 5
    with pytest.raises(ValueError):
        loss(query, key[1:])
    assert loss.queue.num_kept == 5 and loss.queue.cursor == 5  # nothing of a call that failed


def test_a_backward_after_the_next_call_has_the_keys_of_its_own():
    query, key, old = views(3, 6, D)
    query.requires_grad_()
    loss = made(fill=[old], size=6).train()
    first = loss(query, key, logit_scale=5.0)
    loss(query, key)  # all keys are replaced
    (grad,) = torch.autograd.grad(first, query)
    (expected,) = torch.autograd.grad(dense(query, key, 5.0, old), query)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_that_was_loaded_goes_on_to_the_bit(dtype, tmp_path):
    batches = [[x.to(dtype) for x in views(4, size, D)] for size in (5, 9, 4, 30, 8)]
    loss = made(dtype=dtype, size=21, symmetric=True).train()
    for batch in batches[:2]:
        loss(*batch)
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    resumed = made(dtype=dtype, size=21, symmetric=True).train()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for batch in batches[2:]:
        assert torch.equal(loss(*batch), resumed(*batch))
    for one, other in zip(loss.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def same_as(ids, others):
    return ids[:, None] == others


def test_keys_in_the_queue_keep_their_ids():
    """Over calls that wrap: of a batch, only keys of other ids are negatives."""
    features = views(1, 60, D)[0]
    ids = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(1)) * 2**40
    loss = made(size=7, symmetric=True, with_ids=True, backend="reference").train()
    put = 0
    for size in (3, 5, 9, 2, 7):
        batch, of_batch = features[put : put + size], ids[put : put + size]
        kept, of_kept = features[:put][-7:], ids[:put][-7:]
        scores = 5.0 * unit(batch) @ unit(kept).T
        scores = scores.masked_fill(same_as(of_batch, of_kept), float("-inf"))
        own = torch.full((size, 1), 5.0, dtype=scores.dtype)
        expected = (torch.cat([own, scores], 1).logsumexp(1) - 5.0).mean()
        found = loss(batch, batch, batch, batch, logit_scale=5.0, ids=of_batch)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        put += size
        for queue in (loss.queue, loss.reverse_queue):
            assert torch.equal(queue.kept_ids().sort().values, ids[:put][-7:].sort().values)


def test_a_queue_with_ids_goes_on_to_the_bit_and_takes_no_other_state(tmp_path):
    batches = [(*(x.float() for x in views(2, size, D)), torch.arange(size)) for size in (5, 9, 30)]
    options = dict(size=21, dtype=torch.float32, backend="reference")
    loss = made(with_ids=True, **options).train()
    loss(*batches[0][:2], ids=batches[0][2])
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    resumed = made(with_ids=True, **options).bfloat16().float().train()  # ids are not rounded
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(state)
    for *batch, ids in batches[1:]:
        assert torch.equal(loss(*batch, ids=ids), resumed(*batch, ids=ids))
    assert state["queue.ids"].dtype == torch.int64
    assert "queue.ids" not in made(**options).state_dict()
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "queue\.ids"'):
        made(**options).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "queue\.ids"'):
        made(with_ids=True, **options).load_state_dict(made(**options).state_dict())


def test_ids_are_given_to_a_queue_that_has_them_and_to_no_other():
    x, ids = torch.ones(4, D), torch.arange(4)
    loss, without = fastclip.QueueLoss(D, K, with_ids=True), fastclip.QueueLoss(D, K)
    assert "with_ids=True" in repr(loss) and "with_ids" not in repr(without)
    for call in (lambda: loss(x, x), lambda: loss.enqueue(x)):
        with pytest.raises(ValueError, match="ids must be given to a QueueLoss with with_ids=True"):
            call()
    for call in (lambda: without(x, x, ids=ids), lambda: without.enqueue(x, ids=ids)):
        with pytest.raises(ValueError, match="ids need a QueueLoss with with_ids=True"):
            call()
    for call in (lambda: loss(x, x, ids=ids[1:]), lambda: loss.enqueue(x, ids=ids[1:])):
        with pytest.raises(ValueError, match=r"ids must have shape \(4,\)"):
            call()
    assert loss.queue.num_kept == without.queue.num_kept == 0


def test_a_state_of_another_queue_is_refused():
    state = made().state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for queue\.keys"):
        made(size=K + 1).load_state_dict(state)
    with pytest.raises(RuntimeError, match="Missing key"):
        made(symmetric=True).load_state_dict(state)
    state["queue._extra_state"] = torch.tensor([K, 3])
    with pytest.raises(ValueError, match="cannot have its cursor at 50"):
        made().load_state_dict(state)


def test_bad_input_is_named():
    x, loss = torch.ones(4, 3), fastclip.QueueLoss(D, K)
    with pytest.raises(ValueError, match="query and the queue must have the same D"):
        loss(x, x)
    with pytest.raises(ValueError, match="key and the queue must have the same D"):
        loss.enqueue(x)
    x = torch.ones(4, D)
    with pytest.raises(ValueError, match="need a QueueLoss with symmetric=True"):
        loss(x, x, x, x)
    with pytest.raises(TypeError, match=r"reverse_key must be a torch\.Tensor, got NoneType"):
        fastclip.QueueLoss(D, K, symmetric=True)(x, x, x)
    with pytest.raises(ValueError, match="needs a reverse_key with symmetric=True, and only then"):
        loss.enqueue(x, x)
    with pytest.raises(ValueError, match="one number by two names"):
        fastclip.QueueLoss(D, K, 0.07)(x, x, logit_scale=10.0)
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        fastclip.QueueLoss(D, 0)
    with pytest.raises(TypeError, match="dim must be an int, got float"):
        fastclip.QueueLoss(3.0, K)
