"""How large the blocks of backend `chunked` are, and what that depends on."""

from types import SimpleNamespace

import pytest
import torch

from fastclip.backends.chunked import machine
from fastclip.backends.chunked.blocks import blocks_of
from fastclip.backends.chunked.machine import CPU, Machine, machine_of
from fastclip.rectangle import Diagonal, Rectangle

MIB = 1 << 20
H200 = Machine(multiplies_16_bits=True, workspace=256 * MIB, multiprocessors=132)


def blocks(M, N, D, machine, workspace=None, dtype=torch.bfloat16):
    rows, cols = (torch.empty(size, D, dtype=dtype, device="meta") for size in (M, N))
    return blocks_of(Rectangle(rows, cols, torch.tensor(1.0), Diagonal(0)), workspace, machine)


def test_on_a_cpu_a_chunk_has_all_columns():
    assert blocks(32768, 32768, 512, CPU).rows == 64 * MIB // (12 * 32768)
    assert blocks(32768, 32768, 512, CPU, dtype=torch.float64).rows == 64 * MIB // (24 * 32768)
    assert blocks(32768, 32768, 512, CPU, workspace=0).rows == 16
    assert blocks(100, 32768, 512, CPU).rows == 100
    assert blocks(100, 32768, 512, CPU).cols == 32768


@pytest.mark.parametrize("D, wave", [(512, 8448), (768, 5632), (1024, 4224)])
def test_a_large_workspace_gives_a_tile_to_every_multiprocessor(D, wave):
    of = blocks(wave, wave, D, H200, workspace=1 << 40)
    assert (of.rows, of.cols) == (wave, wave)
    of = blocks(10 * wave, 10 * wave, D, H200, workspace=12 * wave * wave)
    assert (of.rows, of.cols) == (wave, wave)


@pytest.mark.parametrize("workspace", [None, MIB, 40 * MIB, 1024 * MIB])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("M, N, D", [(32768, 32768, 768), (300, 70001, 512), (5000, 1, 1)])
def test_blocks_take_no_more_than_the_workspace_and_cover_all(M, N, D, dtype, workspace):
    of = blocks(M, N, D, H200, workspace, dtype)
    allowed = H200.workspace if workspace is None else workspace
    assert of.rows * of.cols * 3 * max(4, dtype.itemsize) <= allowed
    for slices, size in ((list(of.chunks()), M), (list(of.panels()), N)):
        assert [x.start for x in slices] == [0, *(x.stop for x in slices[:-1])]
        assert slices[-1].stop == size


def test_without_a_workspace_there_is_one_tile():
    of = blocks(1000, 1000, 64, H200, workspace=0)
    assert (of.rows, of.cols) == (128, 128)


def test_chunks_are_equal_parts():
    of = blocks(8192, 8192, 768, H200, workspace=1024 * MIB)
    assert [x.stop - x.start for x in of.chunks()] == [4096, 4096]


class TestMachine:
    DEVICE = torch.device("cuda", 5)

    @pytest.fixture(autouse=True)
    def a_gpu(self, monkeypatch):
        properties = SimpleNamespace(multi_processor_count=78)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        machine._multiprocessors.cache_clear()
        yield
        machine._multiprocessors.cache_clear()

    def test_a_gpu_multiplies_16_bits(self):
        assert machine_of(self.DEVICE) == Machine(True, 256 * MIB, 78)

    @pytest.mark.parametrize("type", ["cpu", "mps", "meta"])
    def test_others_are_treated_as_a_cpu(self, type):
        assert machine_of(torch.device(type)) == CPU

    def test_where_addmm_has_no_out_dtype_factors_are_wide(self, monkeypatch):
        monkeypatch.setattr(torch.version, "hip", "7.0")
        assert not machine_of(self.DEVICE).multiplies_16_bits
