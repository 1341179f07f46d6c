"""What a workspace keeps of the logits."""

import torch

from fastclip.backends.gpu.precision import kept_layout


def test_a_workspace_keeps_what_fits_beyond_the_block():
    layout = kept_layout("contrastive_lse", torch.bfloat16)
    reserved = layout.reserved_bytes
    assert layout.row_bytes(1000) == 1024 * 2
    assert layout.num_rows(1000, 1000, None) == 0
    assert layout.num_rows(1000, 1000, reserved) == 0
    assert layout.num_rows(1000, 1000, reserved + 10 * 2048 + 1) == 10
    assert layout.num_rows(1000, 1000, 1 << 40) == 1000
