"""The sizes of the blocks of G."""

from fastclip.backends.gpu.blocks import block_for


def test_a_block_fits_in_the_workspace():
    for D in (64, 512, 768, 1024, 4096):
        for planes in (1, 2):
            for workspace in (None, 1 << 20, 8 << 20, 1 << 30):
                block = block_for(4096, D, workspace, planes)
                num_bytes = block.rows * block.cols * 2 * planes
                assert num_bytes <= min(96 << 20, workspace or 96 << 20)
                assert block.rows % 256 == block.cols % 256 == 0
