"""What a workspace keeps of the logits."""

import torch

from fastclip.backends.gpu.precision import kept_layout


def test_a_workspace_keeps_what_fits_beyond_the_block():
    layout = kept_layout("contrastive_lse", torch.bfloat16)
    reserved = layout.reserved_bytes
    assert layout.row_bytes(1000) == 1024 * 2
    assert layout.num_rows(1000, 1000, reserved) == 0
    assert layout.num_rows(1000, 1000, reserved + 10 * 2048 + 1) == 10
    assert layout.num_rows(1000, 1000, 1 << 40) == 1000


def test_by_default_a_batch_of_16_bits_keeps_all_logits_or_none_of_them():
    """All in 64 MiB: nothing at N = 32,768, whose memory is held to 256 MiB."""

    def kept(dtype, N, primitive="contrastive_lse"):
        return kept_layout(primitive, dtype).num_rows(N, N, None)

    for dtype in (torch.bfloat16, torch.float16):
        assert kept(dtype, 5760) == 5760 and kept(dtype, 5761) == 0
    assert kept(torch.float32, 100) == 0 and kept(torch.bfloat16, 100, "siglip_sum") == 0
