"""The loss of a run, which may have parameters and buffers of its own."""

from collections.abc import Callable

from torch import nn

from fastclip.losses.clip import ClipLoss
from fastclip.losses.coca import CoCaLoss
from fastclip.losses.dcl import DCLLoss
from fastclip.losses.distill_clip import DistillClipLoss
from fastclip.losses.info_loob import InfoLOOBLoss
from fastclip.losses.matryoshka import MatryoshkaClipLoss
from fastclip.losses.queue import QueueLoss
from fastclip.losses.siglip import SigLipLoss
from fastclip.losses.sog_clr import SogCLRLoss
from fastclip.train.run.pair_loss import (
    PairLoss,
    of_captions,
    of_pairs,
    of_prefixes,
    of_queues,
    of_samples,
    of_teacher,
)
from fastclip.train.settings.loss_config import CLIP, DCL, INFOLOOB, QUEUE, SIGLIP, SOGCLR
from fastclip.train.settings.run_config import RunConfig

# Makes the loss of a run from its settings and its model, which is still on the CPU. Every rank
# makes its own loss, with the same random numbers.
LossFactory = Callable[[RunConfig, nn.Module], nn.Module]


def make_loss(config: RunConfig, model: nn.Module, num_samples: int | None = None) -> nn.Module:
    """Make the loss that the settings ask for, see `LossConfig`.

    A run accepts any other `LossFactory` in place of this function:

        >>> def make_supervised_loss(config, model):
        ...     return MyLoss(model.config.embed_dim)
        >>> Run(config, processes, directory, log, make_loss=make_supervised_loss)

    The factory returns a module that is called once per step with (image_features, text_features,
    logit_scale[, logit_bias]) of all pairs of this rank. The module returns a scalar, or a dict of
    scalars, which are added up and each logged by name. The run

        moves the module to the device, and trains its parameters like the model's parameters:
        gradients are averaged over ranks, clipped, and checked to be finite; parameters have no
        masters, so float32 is best
        stores its `state_dict` in every checkpoint, and restores it: parameters, persistent
        buffers, and what `get_extra_state` returns; for every rank, where ranks differ
        undoes what a step that is left out has written into its buffers and its extra state

    With a model that writes captions the module is called with keyword arguments only, see
    `CachedStep`.

    Args:
        num_samples: of the data, for a loss that remembers each sample.

    Raises:
        ValueError: the loss, or one of its options, does not fit the model.
    """
    if getattr(model, "writes_captions", False):
        return _coca(config, model)
    for name in ("coca_caption_loss_weight", "coca_contrastive_loss_weight"):
        usual = getattr(type(config), name)
        if getattr(config, name) != usual:
            raise ValueError(
                f"{name} must be {usual:g} with {config.model}, which writes no captions, got "
                f"{getattr(config, name):g}"
            )
    return MAKERS[config.loss_name](config, model, num_samples)


def _how(config: RunConfig) -> dict[str, str]:
    """Return the options that say how a loss is computed, and do not change its value."""
    return {"backend": config.backend, "schedule": config.loss_schedule}


def _clip(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    if config.distilled_by is not None:
        return PairLoss(DistillClipLoss(**_how(config)), of_teacher)
    options = {
        "label_smoothing": config.label_smoothing, "margin": config.margin, **_how(config)
    }  # fmt: skip
    if config.matryoshka_dims is None:
        return ClipLoss(**options)
    width, longest = model.config.embed_dim, max(config.matryoshka_dims)
    if longest > width:
        raise ValueError(
            f"matryoshka_dims must be at most {width}, the length of the embeddings of "
            f"{config.model}, got {longest}"
        )
    loss = MatryoshkaClipLoss(config.matryoshka_dims, config.matryoshka_weights, **options)
    return PairLoss(loss, of_prefixes)


def _coca(config: RunConfig, model: nn.Module) -> nn.Module:
    others = {
        "loss": (config.loss_name, CLIP), "distill_model": (config.distill_model, None),
        "distill_embeddings": (config.distill_embeddings, None),
        "matryoshka_dims": (config.matryoshka_dims, None),
    }  # fmt: skip
    for name, (value, usual) in others.items():
        if value != usual:
            raise ValueError(
                f"{name} must be {usual or 'left out'} with {config.model}, whose loss is the sum "
                f"of the loss of CLIP and a caption loss, got {value!r}"
            )
    weight, text = config.coca_caption_loss_weight, model.config.text_cfg
    if weight and text.stands_alone:
        raise ValueError(
            f"coca_caption_loss_weight must be 0 with {config.model}, got {weight:g}: its text "
            f"tower, a {text.kind}, shows each token the tokens after it, so that the decoder "
            "would have seen the tokens that the caption loss asks for"
        )
    loss = CoCaLoss(
        config.coca_caption_loss_weight, config.coca_contrastive_loss_weight, model.pad_id,
        label_smoothing=config.label_smoothing, margin=config.margin, backend=config.backend,
        schedule=config.loss_schedule,
    )  # fmt: skip
    return PairLoss(loss, of_captions)


def _siglip(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    return SigLipLoss(**_how(config))


def _queue(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    loss = QueueLoss(
        model.config.embed_dim, config.queue_size, symmetric=True, in_batch=True,
        with_ids=config.mask_duplicates is not None, **_how(config),
    )  # fmt: skip
    return PairLoss(loss, of_queues)


def _dcl(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    return PairLoss(DCLLoss(sigma=config.dcl_sigma, **_how(config)), of_pairs)


def _infoloob(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    return PairLoss(InfoLOOBLoss(**_how(config)), of_pairs)


def _sogclr(config: RunConfig, model: nn.Module, num_samples: int | None) -> nn.Module:
    loss = SogCLRLoss(num_samples, gamma=config.sogclr_gamma, rho=config.sogclr_rho, **_how(config))
    return PairLoss(loss, of_samples)


MAKERS = {
    CLIP: _clip, SIGLIP: _siglip, QUEUE: _queue, DCL: _dcl, INFOLOOB: _infoloob, SOGCLR: _sogclr
}  # fmt: skip
