"""TorchScript archives, as OpenAI publishes: their tensors, without their program."""

import io
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from fastclip.models.checkpoints.errors import CheckpointError, UnsafeCheckpointError
from fastclip.models.checkpoints.files import OPENAI_EXTRAS, read_weights_file
from fastclip.models.checkpoints.jit_archive import is_jit_archive, read_jit_archive
from fastclip.models.precision import set_precision
from tests.support.small_models import SMALL, build, inputs


def write_archive(module: nn.Module, example: tuple, path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its archives are not gone
        torch.jit.trace(module, example, check_trace=False).save(str(path))


@pytest.fixture(scope="module", params=["quick_gelu", "resnet"])
def archive(request, tmp_path_factory):
    """A model in 16 bits, with sizes as tensors as OpenAI has them, and its archive."""
    model = build(SMALL[request.param])
    example = inputs(SMALL[request.param])
    for name, value in zip(OPENAI_EXTRAS, (32, 9, 64), strict=True):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    path = tmp_path_factory.mktemp("jit") / "model.pt"
    write_archive(set_precision(model, "bf16"), example, path)
    return model, path


def test_archive_gives_the_state_dict_bit_for_bit(archive):
    model, path = archive
    tensors = read_jit_archive(path)
    assert set(tensors) == {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    for name, value in model.state_dict().items():
        assert torch.equal(tensors[name], value), name
        assert tensors[name].dtype == value.dtype and tensors[name].stride() == value.stride()


def test_archive_is_recognised_and_a_state_dict_is_not(archive, tmp_path):
    _, path = archive
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pt")
    assert is_jit_archive(path)
    assert not is_jit_archive(tmp_path / "weights.pt")
    (tmp_path / "text").write_text("no zip")
    assert not is_jit_archive(tmp_path / "text")


def test_archive_is_taken_for_openais_and_loses_the_extras(archive):
    model, path = archive
    file = read_weights_file(path)
    assert file.is_openai
    assert set(file.tensors) == set(model.state_dict()) - set(OPENAI_EXTRAS)


def test_archive_without_openais_extras_does_not_tell_its_activation(tmp_path):
    write_archive(build(SMALL["vit"]), inputs(SMALL["vit"]), tmp_path / "model.pt")
    file = read_weights_file(tmp_path / "model.pt")
    assert not file.is_openai and "visual.proj" in file.tensors


class Dtypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.sixteen = nn.Parameter(torch.randn(3, 4).half())
        self.brain = nn.Parameter(torch.randn(5).bfloat16())
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("flag", torch.tensor([True, False]))
        base = torch.arange(12.0)
        self.register_buffer("window", base[2:8].view(2, 3).t())

    def forward(self, x):
        x = x + self.sixteen.sum() + self.brain.sum() + self.count
        return x + self.window.sum() + self.flag[0]


def test_views_and_other_dtypes_are_kept(tmp_path):
    module = Dtypes()
    write_archive(module, (torch.ones(1),), tmp_path / "dtypes.pt")
    tensors = read_jit_archive(tmp_path / "dtypes.pt")
    for name, value in module.state_dict().items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype


def with_pickle(path, pickled: bytes, target):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as changed:
        for name in source.namelist():
            content = pickled if name.endswith("/data.pkl") else source.read(name)
            changed.writestr(name, content)
    return target


def malicious(mark) -> bytes:
    class Attack:
        def __reduce__(self):
            import os

            return os.system, (f"touch {mark}",)

    return pickle.dumps(Attack(), protocol=2)


def test_archive_whose_pickle_runs_code_is_refused_and_does_not_run(archive, tmp_path):
    mark = tmp_path / "ran"
    path = with_pickle(archive[1], malicious(mark), tmp_path / "attack.pt")
    with pytest.raises(UnsafeCheckpointError, match=r"attack.pt is refused: .* run .*system"):
        read_jit_archive(path)
    assert not mark.exists()


def test_reference_to_something_other_than_a_storage_is_refused(archive, tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("module", "evil", "0", "cpu", 1) if obj == "x" else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump("x")
    path = with_pickle(archive[1], buffer.getvalue(), tmp_path / "attack.pt")
    with pytest.raises(UnsafeCheckpointError, match="a reference to 'module'"):
        read_jit_archive(path)


@pytest.mark.parametrize("pickled", [b"", b"\x80\x02", pickle.dumps({"a": 1}, protocol=2)])
def test_archive_that_holds_no_module_is_refused(pickled, archive, tmp_path):
    path = with_pickle(archive[1], pickled, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError, match=r"damaged|not a module"):
        read_jit_archive(path)


def test_tensor_beyond_its_storage_is_refused(tmp_path):
    write_archive(Dtypes(), (torch.ones(1),), tmp_path / "dtypes.pt")
    target = tmp_path / "short.pt"
    with zipfile.ZipFile(tmp_path / "dtypes.pt") as source, zipfile.ZipFile(target, "w") as changed:
        for name in source.namelist():
            content = source.read(name)
            changed.writestr(name, content[:2] if "/data/" in name else content)
    with pytest.raises(CheckpointError, match=r"short.pt is a damaged"):
        read_jit_archive(target)
