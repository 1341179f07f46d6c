"""Run a forward and backward of each loss on small ragged shapes under compute-sanitizer.

The argument is a set of kernels, such as "cuda-hopper".
"""

import sys

import torch

import fastclip
from fastclip.benchmarks.cases import Case, make_inputs
from fastclip.benchmarks.gpu.kernels import find_kernels

SHAPES = (300, 100, torch.bfloat16), (129, 72, torch.float32)


def main(backend: str, device: str = "cuda") -> None:
    for N, D, dtype in SHAPES:
        if device == "cpu" and dtype == torch.bfloat16:
            dtype = torch.float16
        case = Case(N, D, dtype, 100.0, "adversarial", device=device)
        leaves = [x.requires_grad_() for x in make_inputs(case)]
        bias = torch.tensor(-10.0, device=device, requires_grad=True)
        block_only = 96 << 20  # bytes: nothing of the forward is kept
        fastclip.clip_loss(
            *leaves, normalize=True, backend=backend, workspace=block_only
        ).backward()
        in_steps = fastclip.clip_loss(*leaves, backend=backend, reduction="none")
        in_steps.sum().backward()
        workspace = 1 << 30
        fastclip.clip_loss(*leaves, backend=backend, workspace=workspace).backward()
        fastclip.siglip_loss(*leaves, bias, backend=backend).backward()
        assert all(x.grad.isfinite().all() for x in leaves)


if __name__ == "__main__":
    kernels = find_kernels(sys.argv[1])
    with kernels.chosen():
        main(kernels.backend)
