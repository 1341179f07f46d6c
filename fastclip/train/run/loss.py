"""The loss of a run, which may have parameters and buffers of its own."""

from collections.abc import Callable

from torch import nn

from fastclip.losses.clip import ClipLoss
from fastclip.losses.siglip import SigLipLoss
from fastclip.train.settings.run_config import RunConfig

# Makes the loss of a run from its settings and its model, which is still on the CPU. Every rank
# makes its own, and begins with the same random numbers.
LossFactory = Callable[[RunConfig, nn.Module], nn.Module]


def make_loss(config: RunConfig, model: nn.Module) -> nn.Module:
    """Make the loss that the settings ask for: of CLIP, or of SigLIP with `config.siglip`.

    A run takes any other `LossFactory` in the place of this one:

        >>> def make_queue_loss(config, model):
        ...     return QueueLoss(model.config.embed_dim, size=65536)
        >>> Run(config, processes, directory, log, make_loss=make_queue_loss)

    What it returns is a module that is called once a step with (image_features, text_features,
    logit_scale[, logit_bias]) of all pairs of this rank, and returns a scalar, or a dict of scalars
    that are added up. The run

        brings it to the device, and trains its parameters as it trains the model's: their gradients
        are averaged over ranks, limited, and looked at; they are stepped as they are, without
        masters, and so are best in float32
        stores its `state_dict` in every checkpoint, and restores it: parameters, buffers that are
        persistent, and what `get_extra_state` returns; of every rank, where ranks differ
        takes back what a step that is left out has written into its buffers
    """
    settings = {"backend": config.backend, "schedule": config.loss_schedule}
    if config.siglip:
        return SigLipLoss(**settings)
    return ClipLoss(label_smoothing=config.label_smoothing, margin=config.margin, **settings)
