"""The losses of the family by the names of fastclip's classes, and their competitors."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

import fastclip
from fastclip.benchmarks import peers as clip_peers
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family import dense, inputs, ours, peers
from fastclip.benchmarks.provider import Loss, Objection, Provider, needs, no_objection


class Peer(NamedTuple):
    """Another library's loss; `matrices` is as in `Provider`."""

    name: str
    build: Callable[[], Loss]
    own_objection: Objection
    matrices: int


class Compared(NamedTuple):
    """A loss: its inputs, ours, the dense formula with its number of N x N matrices, and peers."""

    inputs: Callable[[Case], tuple[Tensor, ...]]
    ours: Callable[[], Loss]
    dense: Callable[[], Loss]
    matrices: int
    peers: tuple[Peer, ...] = ()


def _is(loss: Loss) -> Callable[[], Loss]:
    return lambda: loss


def _lightly(name: str, matrices: int) -> Peer:
    return Peer("lightly", peers.lightly(name), needs("lightly"), matrices)


def _open_clip(build: Callable[[], Loss], matrices: int) -> Peer:
    return Peer("open_clip", build, needs("open_clip"), matrices)


LOGIT_SCALE = 14.3  # 1 / 0.07, CLIP's initial value, and the default of most of the family
METRIC_LEARNING = needs("pytorch_metric_learning")
LOSSES = {
    "ClipLoss": Compared(
        inputs.learned_pairs, _is(fastclip.clip_loss), _is(dense.clip), 4,
        (_open_clip(clip_peers.open_clip, 4),),
    ),
    "SigLipLoss": Compared(
        inputs.learned_pairs_with_bias, _is(fastclip.siglip_loss), _is(dense.siglip), 5,
        (_open_clip(clip_peers.open_clip_siglip, 5),),
    ),
    "DistillClipLoss": Compared(
        inputs.taught, _is(ours.distill), _is(dense.distill), 9,
        (_open_clip(peers.open_clip_distill, 11),),
    ),
    "MatryoshkaClipLoss": Compared(
        inputs.learned_pairs, _is(ours.matryoshka), _is(dense.matryoshka), 12,
        (
            _open_clip(peers.open_clip_matryoshka, 12),
            Peer("loop of clip_loss", _is(ours.matryoshka_in_a_loop), no_objection, 0),
        ),
    ),
    "NTXentLoss": Compared(
        inputs.pairs, _is(ours.nt_xent), _is(dense.nt_xent), 13,
        (
            _lightly("NTXentLoss", 17),
            Peer(
                "pytorch-metric-learning", peers.metric_learning_nt_xent,
                peers.metric_learning_nt_xent_objection, 0,
            ),
        ),
    ),
    "DCLLoss": Compared(
        inputs.pairs, _is(ours.dcl), _is(dense.dcl), 17, (_lightly("DCLLoss", 12),)
    ),
    "SupConLoss": Compared(
        inputs.labelled_rows, _is(ours.sup_con), _is(dense.sup_con), 6,
        (Peer("pytorch-metric-learning", peers.metric_learning_sup_con, METRIC_LEARNING, 13),),
    ),
    "UniCLLoss": Compared(inputs.labelled_pairs, _is(ours.uni_cl), _is(dense.uni_cl), 6),
    "InfoNCELoss": Compared(inputs.pairs, _is(ours.info_nce), _is(dense.info_nce), 3),
    "InfoLOOBLoss": Compared(inputs.pairs, _is(ours.info_loob), _is(dense.info_loob), 6),
    "MultipleNegativesLoss": Compared(
        inputs.pairs, _is(ours.multiple_negatives), _is(dense.info_nce), 3,
        (
            Peer(
                "sentence-transformers", peers.sentence_transformers,
                needs("sentence_transformers"), 4,
            ),
        ),
    ),
    "QueueLoss": Compared(
        inputs.queued, ours.queue, _is(dense.queue), 6,
        (Peer("pytorch-metric-learning", peers.metric_learning_memory, METRIC_LEARNING, 25),),
    ),
    "SogCLRLoss": Compared(inputs.indexed_pairs, ours.sog_clr, dense.sog_clr, 6),
    "ModalitiesLoss": Compared(
        inputs.three_modalities, _is(ours.modalities), _is(dense.modalities), 5
    ),
}  # fmt: skip


def providers_of(name: str) -> tuple[Provider, ...]:
    """Return the providers of a loss of LOSSES: "<name>/fastclip", peers, "<name>/dense"."""
    loss = LOSSES[name]
    own = Peer("fastclip", loss.ours, no_objection, 0)
    formula = Peer("dense", loss.dense, no_objection, loss.matrices)
    return tuple(
        Provider(
            f"{name}/{one.name}", name, one.build, one.own_objection, one.matrices,
            inputs=loss.inputs,
        )
        for one in (own, *loss.peers, formula)
    )  # fmt: skip


def parts_of(name: str) -> tuple[str, str]:
    """Split a provider's name into the loss and the implementation."""
    loss, _, whose = name.partition("/")
    return loss, whose
