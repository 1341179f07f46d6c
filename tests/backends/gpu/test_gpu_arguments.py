"""A kernel that reads beyond a tensor ends every other use of its device: it is not launched."""

import pytest
import torch

from fastclip.ops.dispatch import kept_like
from tests.support.operator_calls import arguments, wrong_values


@pytest.mark.parametrize(
    "operator, name",
    [
        ("contrastive_lse", "col_features"),
        ("contrastive_lse", "kept_rows"),
        ("contrastive_lse_backward", "grad_total"),
        ("contrastive_lse_backward", "shift"),
        ("siglip_sum", "positive_offset"),
        ("siglip_sum_backward", "grad_row_loss"),
        ("siglip_total", "logit_bias"),
        ("siglip_total_backward", "grad_total"),
    ],
)
def test_wrong_arguments_are_refused_by_name(gpu, operator, name):
    overload = getattr(torch.ops.fastclip, operator).default
    right = {
        key: x.to(gpu.device) if isinstance(x, torch.Tensor) else x
        for key, x in arguments(overload, gpu.backend).items()
    }
    for value in wrong_values(name, right[name]):
        with pytest.raises(ValueError, match=rf"^{operator}: (row_features|{name}) must .*, got "):
            overload(*(right | {name: value}).values())


def test_kept_logits_have_the_width_that_the_forward_gave_them(gpu):
    overload = torch.ops.fastclip.contrastive_lse_backward.default
    right = arguments(overload, gpu.backend)
    kept = kept_like(gpu.backend, "contrastive_lse", right["row_features"], 2, 6)
    tensors = {key: x.to(gpu.device) for key, x in right.items() if isinstance(x, torch.Tensor)}
    for wrong in (kept[:, 4:].contiguous(), kept[:, :4].contiguous(), kept.repeat(3, 1)):
        with pytest.raises(ValueError, match=r"kept must be contiguous uint8 \[at most 4, 512\]"):
            overload(*(right | tensors | {"kept": wrong.to(gpu.device)}).values())


def test_float64_is_an_objection(gpu):
    overload = torch.ops.fastclip.contrastive_lse.default
    right = arguments(overload, gpu.backend, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=f"backend '{gpu.backend}' cannot run: it needs float32"):
        overload(*(x.to(gpu.device) if isinstance(x, torch.Tensor) else x
                   for x in right.values()))  # fmt: skip
