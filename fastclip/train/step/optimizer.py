"""AdamW as CLIP uses it: weight decay on matrices, none on gains, biases and the logit scale.

Parameters of the loss, such as a learned temperature, are stepped along with the model's.

Source: Loshchilov and Hutter 2017, arXiv:1711.05101; Radford et al. 2021, arXiv:2103.00020,
section 2.5.
"""

from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

from fastclip.models.towers.image_config import Moments
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.gradient_sync import parameters_of
from fastclip.train.weights.masters import NO_MASTERS, MasterWeights
from fastclip.train.weights.sharding import is_share


def moments_of(model: nn.Module) -> Moments:
    """Return the betas and epsilon that CLIP was trained with, which depend on the image tower."""
    return model.config.vision_cfg.moments


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, masters: MasterWeights = NO_MASTERS
) -> list[dict]:
    """Split trainable parameters into a group without weight decay and a group with it.

    Parameters of two or more dimensions decay. The group without decay comes first, as in
    open_clip. A parameter that has a master is represented by the master.
    """
    trainable = [masters.of(p) for p in dict.fromkeys(parameters) if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
    ]


def make_optimizer(
    model: nn.Module,
    config: StepConfig,
    masters: MasterWeights = NO_MASTERS,
    loss: object = None,
) -> AdamW:
    """Make AdamW with the settings of `config`; on a GPU it takes one kernel for all parameters.

    Args:
        masters: are stepped in place of their parameters. `OptimizerStep` gives them their
            gradients and writes them back.
        loss: a loss on the device of the model. If it is a module, its parameters are trained too;
            in each group they come after the model's.
    """
    parameters = [*model.parameters(), *parameters_of(loss)]
    # torch's kernels for many tensors refuse lists in which only some tensors are sharded.
    is_sharded = any(map(is_share, parameters))
    on_gpu = all(p.is_cuda for p in parameters)
    return AdamW(
        parameter_groups(parameters, config.weight_decay, masters),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True if on_gpu and not is_sharded else None,
        foreach=False if is_sharded else None,
    )
