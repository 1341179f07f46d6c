"""What a rank holds and what it sends."""

from unittest.mock import patch

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastclip
from fastclip.distributed import exchange, ring, ring_contrastive_lse, ring_sigmoid_loss
from tests.distributed.pairs import LOSSES, SIZES, D, inputs_of, leaves_of, loss_of
from tests.support.dense import views

DIRECTIONS = "query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"
LARGEST_BLOCK = max(SIZES) * max(D, max(SIZES))


class LargestTensor(TorchDispatchMode):
    num_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.num_elements = max(self.num_elements, x.numel())
        return result


def largest_tensor(group, loss, inputs, schedule):
    leaves = leaves_of(group.rank(), inputs)
    with LargestTensor() as largest:
        loss_of(loss, leaves, process_group=group, schedule=schedule, backend="chunked").backward()
    return largest.num_elements


@pytest.mark.parametrize("loss", LOSSES)
def test_ring_holds_nothing_larger_than_a_block(ranks, loss):
    assert sum(SIZES) * D > LARGEST_BLOCK
    inputs = inputs_of(loss)
    assert max(ranks.run(4, largest_tensor, loss, inputs, "ring")) <= LARGEST_BLOCK
    assert max(ranks.run(4, largest_tensor, loss, inputs, "gather")) >= sum(SIZES) * D


FAMILY = {
    "info_nce_loss": lambda x, y, z, ids, **options: fastclip.info_nce_loss(x, y, **options),
    "given negatives": lambda x, y, z, ids, **options: fastclip.info_nce_loss(
        x, y, z, ids=ids, negative_ids=ids, **options
    ),
    "nt_xent_loss": lambda x, y, z, ids, **options: fastclip.nt_xent_loss(x, y, ids=ids, **options),
    "sup_con_loss": lambda x, y, z, ids, **options: fastclip.sup_con_loss(x, ids, **options),
    "uni_cl_loss": lambda x, y, z, ids, **options: fastclip.uni_cl_loss(x, y, ids, **options),
    "dcl_loss": lambda x, y, z, ids, **options: fastclip.dcl_loss(x, y, sigma=0.5, **options),
    "info_loob_loss": lambda x, y, z, ids, **options: fastclip.info_loob_loss(
        x, y, ids=ids, **options
    ),
    "multiple_negatives_loss": lambda x, y, z, ids, **options: fastclip.multiple_negatives_loss(
        x, y, [z], directions=DIRECTIONS, ids=ids, hard_negative_ids=[ids], **options
    ),
    "SogCLRLoss": lambda x, y, z, ids, **options: fastclip.SogCLRLoss(64, **options).double()(
        x, y, ids, ids=ids
    ),
    "modalities_loss": lambda x, y, z, ids, **options: fastclip.modalities_loss(
        {"a": x, "b": y, "c": z}, [("a", "b"), ("a", "c")], ids=ids, **options
    ),
    "distill_clip_loss": lambda x, y, z, ids, **options: sum(
        fastclip.distill_clip_loss(x, y, 10.0, z.detach(), x.detach(), 20.0, **options)
    ),
}  # fmt: skip


def largest_of_family(group, schedule):
    """The largest tensor of each loss of the family, by its name."""
    rank, N = group.rank(), sum(SIZES[:3])
    leaves = [x.split(SIZES[:3])[rank].clone().requires_grad_() for x in views(3, N, D)]
    ids = (torch.arange(N) ** 2 % 61).split(SIZES[:3])[rank]
    found = {}
    for name, loss in FAMILY.items():
        with LargestTensor() as largest:
            loss(*leaves, ids, process_group=group, schedule=schedule, backend="chunked").backward()
        found[name] = largest.num_elements
    return found


def test_family_holds_nothing_larger_than_a_block_on_a_ring(ranks):
    block, whole = max(SIZES[:3]) ** 2, sum(SIZES[:3]) * D
    assert block < whole
    for found in ranks.run(3, largest_of_family, "ring"):
        assert {name: size for name, size in found.items() if size > block} == {}
    for found in ranks.run(3, largest_of_family, "gather"):
        assert {name: size for name, size in found.items() if size < whole} == {}


def feature_messages(group, loss, inputs, schedule, frozen):
    """How many features a rank sends to others, forward and backward."""
    sent = {"forward": 0, "backward": 0}
    phase = "forward"

    def count(tensors):
        sent[phase] += sum(x.numel() for x in tensors if x.dim() == 2 and x.shape[1] == D)

    def all_gather(result, rows, **options):
        count([rows])
        return exchange_all_gather(result, rows, **options)

    def all_to_all(rows, *args):
        count([rows])
        return exchange_rows(rows, *args)

    def passed_on(tensors, *args):
        count(tensors)
        return ring_passed_on(tensors, *args)

    exchange_all_gather, exchange_rows = exchange._all_gather, exchange._exchange
    ring_passed_on = ring._passed_on
    with (
        patch.object(exchange, "_all_gather", all_gather),
        patch.object(exchange, "_exchange", all_to_all),
        patch.object(ring, "_passed_on", passed_on),
    ):
        leaves = leaves_of(group.rank(), inputs, frozen)
        value = loss_of(loss, leaves, process_group=group, schedule=schedule)
        phase = "backward"
        value.backward()
    return sent


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (0, 1)], ids=str)
def test_frozen_sides_send_no_gradients(ranks, loss, frozen):
    inputs = inputs_of(loss)
    N, largest = sum(SIZES), max(SIZES)
    by_gather = ranks.run(4, feature_messages, loss, inputs, "gather", frozen)
    by_ring = ranks.run(4, feature_messages, loss, inputs, "ring", frozen)
    for rank in range(4):
        # The ring passes on all blocks but the one that arrives last; sums go all the way home.
        features = (N - SIZES[(rank + 1) % 4]) * D
        gradients = 0 if frozen else N * D
        assert by_gather[rank] == {"forward": largest * D, "backward": gradients}
        assert by_ring[rank] == {"forward": features, "backward": features + gradients}


def numbers_of_one_direction(group, frozen_keys):
    """How many numbers a rank passes on, forward and backward, where only rows are wanted."""
    sent = [0, 0]
    phase = 0
    ring_passed_on = ring._passed_on

    def passed_on(tensors, *args):
        sent[phase] += sum(x.numel() for x in tensors)
        return ring_passed_on(tensors, *args)

    query, key = (x.split(SIZES)[group.rank()].clone() for x in views(2, sum(SIZES), D))
    query.requires_grad_(), key.requires_grad_(not frozen_keys)
    with patch.object(ring, "_passed_on", passed_on):
        loss = fastclip.info_nce_loss(query, key, process_group=group, schedule="ring")
        phase = 1
        loss.backward()
    return sent


@pytest.mark.parametrize("frozen_keys", [False, True])
def test_one_direction_sends_no_statistics(ranks, frozen_keys):
    for rank, (forward, backward) in enumerate(ranks.run(4, numbers_of_one_direction, frozen_keys)):
        features = (sum(SIZES) - SIZES[(rank + 1) % 4]) * D
        assert forward == features
        assert backward == features + (0 if frozen_keys else sum(SIZES) * D)


def sends_while_it_computes(group, loss, inputs):
    """What the ring does, in order: post messages, compute, wait."""
    events = []
    batch = ring.dist.batch_isend_irecv
    of_loss = {
        "clip": (ring_contrastive_lse, "statistics_of"),
        "siglip": (ring_sigmoid_loss, "siglip_sum"),
    }
    module, name = of_loss[loss]
    primitive = getattr(module, name)

    class Recorded:
        def __init__(self, request):
            self.request = request

        def wait(self):
            events.append("wait")
            self.request.wait()

    def post(operations):
        events.append("post")
        return [Recorded(request) for request in batch(operations)]

    def compute(*args):
        events.append("compute")
        return primitive(*args)

    with patch.object(ring.dist, "batch_isend_irecv", post), patch.object(module, name, compute):
        loss_of(loss, leaves_of(group.rank(), inputs), process_group=group, schedule="ring")
    return [
        event for event, before in zip(events, [None, *events], strict=False) if event != before
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_ring_computes_between_posting_and_waiting(ranks, loss):
    step = ["post", "compute", "wait"]
    # SigLIP's forward sums nothing over ranks: the last visit sends nothing.
    end = ["post", "compute", "wait", "post", "wait"] if loss == "clip" else ["compute"]
    for events in ranks.run(4, sends_while_it_computes, loss, inputs_of(loss)):
        assert events == step * 3 + end
