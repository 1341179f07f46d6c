"""AdamW as CLIP uses it: weight decay on matrices, none on gains, biases and the logit scale.

Source: Loshchilov and Hutter 2017, arXiv:1711.05101; Radford et al. 2021, arXiv:2103.00020,
section 2.5.
"""

from torch import nn
from torch.optim import AdamW

from fastclip.train.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Split trainable parameters: those of two or more dimensions decay, the others do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW with the settings of `config`; one kernel for all parameters if they are on a GPU."""
    on_gpu = all(p.is_cuda for p in model.parameters())
    return AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=on_gpu or None,
    )
