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
# makes its own, and begins with the same random numbers.
LossFactory = Callable[[RunConfig, nn.Module], nn.Module]


def make_loss(config: RunConfig, model: nn.Module, num_samples: int | None = None) -> nn.Module:
    """Make the loss that the settings ask for, see `LossConfig`.

    A run takes any other `LossFactory` in the place of this one:

        >>> def make_supervised_loss(config, model):
        ...     return MyLoss(model.config.embed_dim)
        >>> Run(config, processes, directory, log, make_loss=make_supervised_loss)

    What it returns is a module that is called once a step with (image_features, text_features,
    logit_scale[, logit_bias]) of all pairs of this rank, and returns a scalar, or a dict of scalars
    that are added up, and logged each by its name. The run

        brings it to the device, and trains its parameters as it trains the model's: their gradients
        are averaged over ranks, limited, and looked at; they are stepped as they are, without
        masters, and so are best in float32
        stores its `state_dict` in every checkpoint, and restores it: parameters, buffers that are
        persistent, and what `get_extra_state` returns; of every rank, where ranks differ
        takes back what a step that is left out has written into its buffers and its extra state

    Of a model that writes captions it is called by name alone, see `CachedStep`.

    Args:
        num_samples: of the data, for a loss that remembers each of them.

    Raises:
        ValueError: the loss, or one of its options, is none of such a model.
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
    """How any loss is computed, which does not change what it is."""
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
                f"{name} must be {usual or 'left out'} with {config.model}, whose loss is that of "
                f"CLIP and of captions, got {value!r}"
            )
    weight, text = config.coca_caption_loss_weight, model.config.text_cfg
    if weight and text.stands_alone:
        raise ValueError(
            f"coca_caption_loss_weight must be 0 with {config.model}, got {weight:g}: its text "
            f"tower, a {text.kind}, shows each token those behind it, so that a caption's loss "
            "would ask for what the decoder has seen"
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
