"""Partial results of panels and strips add up, whoever computes them."""

import pytest
import torch

from fastclip.backends.gpu import partials

M, N, BLOCK_M, BLOCK_N = 300, 500, 64, 32


@pytest.mark.parametrize("panel_cols", [64, 160, 1 << 14])
@pytest.mark.parametrize("strip_partials", [1, 2])
@pytest.mark.parametrize("maximum", [False, True])
def test_panels_and_strips_cover_the_matrix(monkeypatch, panel_cols, strip_partials, maximum):
    monkeypatch.setattr(partials, "PANEL_COLS", panel_cols)
    monkeypatch.setattr(partials, "MOST_STRIPS", 2)
    matrix = torch.randn(M, N)
    panels = []

    def reduce(x, dim):
        return x.amax(dim) if maximum else x.sum(dim)

    def launch(first_col_tile, num_tiles, strip_tiles, row_partial, col_partial):
        """As kernels do, with `strip_partials` shares of the rows of every strip."""
        panels.append(num_tiles)
        begin = first_col_tile * BLOCK_N
        end = begin + num_tiles * BLOCK_N
        for tile, cols in enumerate(matrix[:, begin:end].split(BLOCK_N, dim=1)):
            row_partial[tile] = reduce(cols, 1)
        assert len(row_partial) >= tile + 1 == num_tiles
        strips = matrix[:, begin:end].split(strip_tiles * BLOCK_M)
        assert len(strips) == len(col_partial) // strip_partials
        for strip, rows in enumerate(strips):
            for share in range(strip_partials):
                of_share = rows[share::strip_partials]
                col_partial[strip * strip_partials + share, begin:end] = reduce(of_share, 0)

    found = partials.over_panels(
        launch, M, N, BLOCK_M, BLOCK_N, strip_partials, maximum, like=torch.empty(0)
    )
    assert sum(panels) == -(-N // BLOCK_N) and len(panels) == -(-512 // min(panel_cols, 512))
    torch.testing.assert_close(reduce(found.rows, 0), reduce(matrix, 1))
    torch.testing.assert_close(reduce(found.cols, 0), reduce(matrix, 0))


@pytest.mark.parametrize("N", [1000, 32_768, 200_000, 1 << 20, 1 << 22])
@pytest.mark.parametrize("block, strip_partials", [(128, 1), (256, 2)])
def test_partials_are_small_and_programs_are_many(N, block, strip_partials):
    programs = []

    def launch(first_col_tile, num_tiles, strip_tiles, row_partial, col_partial):
        assert row_partial.nbytes <= max(64 << 20, 4 * N)
        most = max(64 << 20, 4 * N * strip_partials * -(-128 // len(row_partial)))
        assert col_partial.nbytes <= most
        programs.append(num_tiles * len(col_partial) // strip_partials)

    like = torch.empty(0, device="meta")
    partials.over_panels(launch, N, N, block, block, strip_partials, False, like)
    assert programs[0] >= min(126, (-(-N // block)) ** 2)


def test_a_million_columns_take_64_mib():
    """64 strips of two partials were 512 MiB."""
    found = partials.over_panels(
        lambda *args: None, 1 << 20, 1 << 20, 256, 256, 2, False, torch.empty(0, device="meta")
    )
    assert found.cols.nbytes == 64 << 20
