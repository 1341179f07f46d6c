"""Weights from strangers: refused in a sentence, at once, without memory, or read as they are."""

import json
import struct
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from fastclip.cli import main
from fastclip.data.limits import LARGEST_JSON
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import (
    CheckpointError,
    KeyMismatchError,
    UnsafeCheckpointError,
)
from fastclip.models.checkpoints.files import read_weights_file
from fastclip.models.checkpoints.load import load_checkpoint, load_state_dict
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.checkpoints.transformers_config import from_transformers_config
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import create_model
from fastclip.models.open_clip_config import to_json
from fastclip.process_memory import rise_bytes
from tests.support import archives
from tests.support.archives import mapping, module, recalled, remembered, tensor, write_archive
from tests.support.small_models import SMALL, build

CONFIG = SMALL["vit"]
MODEST = 2**26  # bytes that a refusal may take
pytestmark = pytest.mark.usefixtures("cheap_collections")  # memory is measured after one


@pytest.fixture
def state():
    return {name: value.clone() for name, value in build(CONFIG).state_dict().items()}


def refused(path, kind=CheckpointError):
    """What is said of a file that is refused at once and without memory."""
    start, said = time.process_time(), []

    def read():
        with pytest.raises(kind) as caught:
            read_weights_file(path)
        said.append(str(caught.value))

    assert rise_bytes(read) < MODEST and time.process_time() - start < 3
    assert str(path) in said[0] and len(said[0]) < 600 and "weights_only" not in said[0]
    return said[0]


# Memory that is shared


def save(state, path, how):
    if how == "directory":
        path.mkdir()
        content = json.dumps({"model_cfg": to_json(CONFIG)})
        (path / "open_clip_config.json").write_text(content)
        torch.save(state, path / "open_clip_pytorch_model.bin")
    else:
        content = {"state_dict": state, "model_config": to_json(CONFIG)}
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")


@pytest.mark.parametrize("how", ["zip", "legacy", "directory"])
def test_parameters_of_one_storage_get_memory_of_their_own(how, state, tmp_path):
    first, second = (f"transformer.resblocks.{i}.mlp.c_fc.weight" for i in range(2))
    state[second] = state[first]
    state["ln_final.weight"] = torch.tensor([0.5]).expand(128)
    state["visual.proj"] = state["visual.proj"].T.contiguous().T
    save(state, tmp_path / "shared", how)
    path = tmp_path / "shared"
    models = [
        build_model(CONFIG, read_stored_model(path)),
        create_model(str(path)) if how == "directory" else build(CONFIG),
    ]
    load_checkpoint(models[1], path)
    for model in models:
        own = dict(model.named_parameters())
        assert len({p.untyped_storage().data_ptr() for p in own.values()}) == len(own)
        assert all(p.is_contiguous() for p in own.values())
        for name, value in state.items():
            assert torch.equal(own[name], value), name
        with torch.no_grad():
            own[first].zero_()
            own["ln_final.weight"][0] = 7
        assert torch.equal(own[second], state[second])
        assert own["ln_final.weight"][1] == 0.5
    assert torch.equal(
        read_stored_model(path).tensors[first], state[first]
    )  # the file is as it was
    if how != "directory":
        read = load_state_dict(path)
        assert read[first].data_ptr() != read[second].data_ptr()


def test_a_state_dict_in_memory_shares_nothing_with_the_model(state):
    from fastclip.models.openai import build_model_from_openai_state_dict

    model = build_model_from_openai_state_dict(state, cast_dtype=torch.float32, heads=2)
    model.visual.proj.data.zero_()
    assert state["visual.proj"].count_nonzero() > 0


# More than there is


def test_shapes_are_compared_before_anything_is_converted(state, tmp_path, monkeypatch):
    state["visual.proj"] = torch.zeros(1, dtype=torch.float16).expand(3000, 3000)
    save(state, tmp_path / "w.pt", "zip")
    source = read_stored_model(tmp_path / "w.pt")

    def build_it():
        with pytest.raises(KeyMismatchError, match=r"visual\.proj: \(3000, 3000\) in the weights"):
            build_model(CONFIG, source)

    assert rise_bytes(build_it) < 2**24


@pytest.mark.parametrize("layout", ["zip", "hf"])
def test_views_of_a_few_bytes_cannot_fill_the_memory(layout, state, tmp_path):
    huge = torch.zeros(1, dtype=torch.float16).expand(40_000, 40_000)
    if layout == "hf":
        save_pretrained(build(CONFIG), tmp_path / "model", layout="hf")
        path = tmp_path / "model" / "pytorch_model.bin"
        tensors = read_weights_file(tmp_path / "model" / "model.safetensors").tensors
        tensors["text_projection.weight"] = huge
        torch.save(tensors, path)
    else:
        path = tmp_path / "w.pt"
        state["visual.proj"] = huge
        torch.save(state, path)
    assert "views of each other" in refused(path)


def test_compressed_members_are_refused_and_not_unpacked(tmp_path):
    for is_program in (False, True):
        path = write_archive(
            tmp_path / f"{is_program}.pt", module(a=tensor()), {"0": bytes(2**26)}, is_program,
            zipfile.ZIP_DEFLATED,
        )  # fmt: skip
        assert path.stat().st_size < 2**18
        assert "compressed or encrypted" in refused(path)


def test_members_that_lie_in_each_other_are_refused(tmp_path):
    path = write_archive(tmp_path / "w.pt", module(a=tensor()), {"0": b"x" * 2**16})
    content = path.read_bytes()
    content = content.replace(struct.pack("<II", 2**16, 2**16), struct.pack("<II", 2**20, 2**20))
    path.write_bytes(content)
    assert "more bytes than the whole file" in refused(path)


def test_a_header_of_safetensors_has_a_bound(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", LARGEST_JSON + 1) + b"{" + b" " * 1000)
    assert "its header claims" in refused(path)
    header = b'{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "damaged safetensors file" in refused(path)


# Modules without end


def chain(depth: int, leaf: bytes, twice: bool) -> bytes:
    value = leaf
    for i in range(depth):
        again = {"b": recalled(i)} if twice else {}
        value = module(a=value + remembered(i), **again)
    return value


@pytest.mark.parametrize(
    "pickled",
    [
        chain(40, module(), twice=True),
        chain(40, module(leaf=tensor()), twice=True),
        chain(20_000, module(leaf=tensor()), twice=False),
        b"c__torch__\nM\n)\x81" + remembered(0) + mapping(me=recalled(0)) + b"b",
    ],
    ids=["paths", "paths to a tensor", "deep", "in itself"],
)
def test_modules_whose_names_have_no_end_are_refused(pickled, tmp_path):
    path = write_archive(tmp_path / "m.pt", pickled, is_program=True)
    assert "modules nested deeper than" in refused(path)


def test_a_module_in_two_places_has_two_names(tmp_path):
    inner = module(weight=tensor()) + remembered(5)
    path = write_archive(tmp_path / "m.pt", module(a=inner, b=recalled(5)), is_program=True)
    assert set(read_weights_file(path).tensors) == {"a.weight", "b.weight"}


# Pickles


@pytest.mark.parametrize("is_program", [False, True])
def test_a_pickle_cannot_change_what_reads_it(is_program, tmp_path):
    changed = archives.TRUE_MAKER + b"N}(" + archives.text("__defaults__") + b"Nu\x86b"
    container = module if is_program else mapping
    pickled = container(a=tensor(maker=changed))
    path = write_archive(tmp_path / "m.pt", pickled, is_program=is_program)
    assert "its pickle would change" in refused(path, UnsafeCheckpointError)
    good = write_archive(tmp_path / "g.pt", container(a=tensor()), is_program=is_program)
    assert read_weights_file(good).tensors["a"].shape == (2, 2)


@pytest.mark.parametrize(
    "pickled, said",
    [
        (mapping(a=tensor(), b=tensor(of=archives.storage(kind="HalfStorage"))), "in two ways"),
        (mapping(a=tensor(of=archives.storage(count=5))), "must have 20 bytes"),
        (mapping(a=tensor(offset=1)), "RuntimeError: setStorage"),
        (mapping(a=tensor(offset=2**63)), "a size or an offset"),
        (mapping(a=tensor(stride=(-1, 1))), "a size or an offset"),
        (mapping(a=tensor((1,) * 65, (1,) * 65)), "too many dimensions"),
        (mapping(a=tensor(of=archives.storage(kind="QInt8Storage"))), "names torch.QInt8Storage"),
        (mapping(a=tensor(of=archives.storage(key="1"))), "KeyError"),
        (b"}" + archives.number(3) + tensor() + b"s", "3 is not a name that a tensor can"),
        (mapping(**{"a" * 2000: tensor()}), "is not a name that a tensor can have"),
        (b"}" + b")" + b"\x85" * 10_000 + b"Ns", "a key of a dict is a tuple"),
        (b"N" + remembered(2**32 - 1), "NoneType"),
        (b"\x8e" + struct.pack("<Q", 2**40), "bytes"),
        (b"cbuiltins\nbytearray\n(" + archives.number(10**10) + b"tR", "a Unread"),
        (b"cposix\nsystem\n(" + archives.text("touch x") + b"tR", "names posix.system"),
        (b"cx\x1b[31m\ny\n", r"names x\x1b[31m.y"),
        (b"\x95" + bytes(8), "not enough values"),
        (b"", "damaged"),
    ],
)  # fmt: skip
def test_pickles_that_lie_are_refused(pickled, said, tmp_path):
    assert said in refused(write_archive(tmp_path / "w.pt", pickled))


def test_tensors_of_other_kinds_are_named(tmp_path):
    kinds = {
        "sparse": torch.ones(2, 2).to_sparse(),
        "meta": torch.ones(2, device="meta"),
    }
    for kind, value in kinds.items():
        for archive in (True, False):
            path = tmp_path / f"{kind}{archive}.pt"
            torch.save(
                {"a": torch.ones(1), "b": value}, path, _use_new_zipfile_serialization=archive
            )
            assert f"b is a {kind}" in refused(path)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_numbers_of_another_kind_are_refused_on_every_way(dtype, state, tmp_path):
    state["ln_final.bias"] = torch.ones(128, dtype=dtype)
    save(state, tmp_path / "w.pt", "zip")
    source = read_stored_model(tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=r"ln_final\.bias has dtype torch\.\w+ in the weights"
    ):
        build_model(CONFIG, source)
    with pytest.raises(CheckpointError, match="does not convert between these kinds of numbers"):
        load_checkpoint(build(CONFIG), tmp_path / "w.pt")


def test_tensors_in_memory_without_numbers_are_refused(state):
    from fastclip.models.checkpoints.stored_model import StoredModel

    for value in (torch.ones(128, device="meta"), torch.ones(128).to_sparse()):
        source = StoredModel({**state, "ln_final.bias": value}, CONFIG, None, None, None)
        with pytest.raises(CheckpointError, match="sparse, nested or without data"):
            build_model(CONFIG, source)


def test_eight_bit_floats_parameters_and_attributes_are_read(tmp_path):
    marked = torch.nn.Parameter(torch.arange(4.0))
    marked.note = "mine"
    state = {
        "a": torch.arange(4.0).to(torch.float8_e4m3fn),
        "b": torch.nn.Parameter(torch.ones(2, 3).T),
        "c": marked,
        "d": torch.empty(0, 3),
    }
    extra = {"set": {1}, "bytes": b"x", "size": torch.Size([2]), "dtype": torch.float16}
    torch.save({"state_dict": state, **extra}, tmp_path / "w.pt")
    torch.save({"state_dict": state, **extra}, tmp_path / "4.pt", pickle_protocol=4)
    for name in ("w.pt", "4.pt"):
        read = read_weights_file(tmp_path / name).tensors
        assert read.keys() == state.keys() and read["b"].stride() == (1, 3)
        for key, value in state.items():
            assert torch.equal(read[key].float(), value.detach().float())
            assert read[key].dtype == value.dtype


# Configurations in checkpoints, indices


def itself() -> dict:
    value = {"embed_dim": 3}
    value["vision_cfg"] = value
    return value


def widening() -> dict:
    value = []
    for _ in range(30):
        value = [value, value]
    return {"vision_cfg": value}


@pytest.mark.parametrize(
    "config, said",
    [
        (itself(), "nested too deep"),
        (widening(), "nested too deep, or there are too many"),
        ({"embed_dim": {1, 2}}, "a Unread is among its values"),
        ({3: 4}, "a name among its values is not text"),
    ],
)
def test_configuration_in_a_checkpoint_is_plain_and_has_an_end(config, said, state, tmp_path):
    torch.save({"state_dict": state, "model_config": config}, tmp_path / "w.pt")
    assert said in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "values, said",
    [
        ({}, "has no object weight_map"),
        ([], "is not a JSON object"),
        ({"weight_map": ["a"]}, "has no object weight_map"),
        ({"weight_map": {"a": 3}}, "lists 3, which is not the name of a file next to it"),
        ({"weight_map": {"a": "../secret.pt"}}, "lists '../secret.pt'"),
        ({"weight_map": {"a": "/etc/x.pt"}}, "lists '/etc/x.pt'"),
        ({"weight_map": {"a": ".."}}, r"lists '\.\.'"),
        ({"weight_map": {"a": "x\x1b\n"}}, r"lists 'x\\x1b\\n'"),
        ({"weight_map": {"a": "x" * 9_000}}, "which is not the name of a file"),
    ],
)
def test_index_names_files_beside_it_and_no_others(values, said, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "secret.pt")
    directory = tmp_path / "model"
    save_pretrained(build(CONFIG), directory)
    (directory / "open_clip_model.safetensors").unlink()
    index = directory / "open_clip_model.safetensors.index.json"
    index.write_text(json.dumps(values))
    with pytest.raises((CheckpointError, OSError), match=said) as caught:
        read_stored_model(directory)
    assert str(index) in str(caught.value) and len(str(caught.value)) < 600


# The command


@pytest.mark.parametrize("what", ["evil", "junk", "empty", "list", "modules", "json", "deep"])
def test_convert_says_one_sentence(what, tmp_path, capsys):
    path = tmp_path / "w.pt"
    if what == "evil":
        write_archive(path, b"cposix\nsystem\n(" + archives.text("touch x") + b"tR")
    elif what == "junk":
        path.write_bytes(b"\x80\x02junk" * 100)
    elif what == "list":
        torch.save({"ranks": [1]}, path)
    elif what == "modules":
        write_archive(path, chain(500, module(), twice=False), is_program=True)
    elif what in ("json", "deep"):
        path.mkdir()
        content = "[" * 200_000 if what == "deep" else '{"model_cfg": 3}'
        (path / "open_clip_config.json").write_text(content)
    else:
        path.touch()
    assert main(["convert", str(path), str(tmp_path / "out"), "--to", "hf"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fastclip convert: {path}") and said.count("\n") == 1
    assert "Traceback" not in said and "weights_only" not in said and len(said) < 600


def test_an_archive_of_several_disks_is_refused(tmp_path):
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    (tmp_path / "weights.pt").write_bytes(locator + end)
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        read_weights_file(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["model_type", "hidden_act"])
def test_a_configuration_is_quoted_in_part(name):
    values = {"model_type": "clip", "vision_config": {"hidden_act": "quick_gelu"}}
    long = "x" * 5000
    values |= {name: long} if name == "model_type" else {"vision_config": {name: long}}
    with pytest.raises(ValueError, match=r"x{20}") as raised:
        from_transformers_config(values)
    assert len(str(raised.value)) < 500
