"""A model as a folder of ONNX, read as other programs read it; onnxruntime is in test-hosts."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.inference import InferenceModel
from fastclip.models.onnx_export import export
from fastclip.models.onnx_export.export import export_onnx
from fastclip.models.onnx_export.settings_files import write_settings
from fastclip.models.onnx_export.tower_graph import gather_weights
from fastclip.models.tower_precision import TowerPrecision
from fastclip.models.two_tower import TwoTower
from tests.support.images import random_image
from tests.support.merges import random_vocabulary
from tests.support.small_models import SMALL, build, with_layers

TOKENIZER = BytePairTokenizer(random_vocabulary(300, "acdegiorst"), context_length=9)
TEXTS = ["a cat", "Two dogs!", "it's", "", "a red fire", "it is a cat, a dog and a cat", "got"]


def ready_of(model, size=32, tokenizer=TOKENIZER, **changes):
    cfg = PreprocessCfg(size, **changes)
    transform = image_transform_v2(cfg, False, output="uint8")
    precision = TowerPrecision("fp32", torch.device("cpu"))
    return InferenceModel("small", model, tokenizer, transform, cfg.to_dict(), precision)


def small(kind, layers=1):
    config = with_layers(SMALL[kind], layers)
    text = replace(config.text_cfg, vocab_size=TOKENIZER.vocab_size)
    return ready_of(build(replace(config, text_cfg=text)), config.vision_cfg.image_size)


@pytest.fixture(scope="module")
def vit():
    return small("vit")


@pytest.fixture(scope="module")
def folder(vit, tmp_path_factory):
    """What was written of it, in float32."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return export_onnx(vit, tmp_path_factory.mktemp("onnx") / "vit")


def session_of(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def names_in(directory):
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def test_folder_has_immichs_files(folder):
    assert names_in(folder.directory) == {
        "config.json", "visual/model.onnx", "visual/preprocess_cfg.json", "textual/model.onnx",
        "textual/tokenizer.json", "textual/tokenizer_config.json",
    }  # fmt: skip
    assert folder.objections == [] and folder.tokenizer.wrong == []
    for tower in folder.towers.values():
        assert tower.embed_dim == 48 and 0 < tower.difference < 1e-5 and tower.cosines is None
        assert tower.num_bytes == (folder.directory / tower.file).stat().st_size
    assert folder.towers["text"].sizes == (9,)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_texts_have_torchs_features_when_read_as_immich_reads_them(vit, folder, batch):
    tokenizers = pytest.importorskip("tokenizers")
    textual = folder.directory / "textual"
    length = json.loads((folder.directory / "config.json").read_text())["text_cfg"][
        "context_length"
    ]
    pad = json.loads((textual / "tokenizer_config.json").read_text())["pad_token"]
    file = tokenizers.Tokenizer.from_file(str(textual / "tokenizer.json"))
    file.enable_padding(length=length, pad_token=pad, pad_id=file.token_to_id(pad))
    file.enable_truncation(max_length=length)
    ids = torch.tensor([file.encode(text).ids for text in TEXTS[:batch]], dtype=torch.int32)
    session = session_of(textual / "model.onnx")
    (found,) = session.run(None, {"text": ids.numpy()})
    with torch.no_grad():
        expected = vit.model.encode_text(TOKENIZER(TEXTS[:batch]), normalize=True)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_images_have_torchs_features(vit, folder, batch):
    cfg = json.loads((folder.directory / "visual" / "preprocess_cfg.json").read_text())
    assert cfg["size"] == [32, 32] and cfg["interpolation"] == "bicubic"
    assert cfg["resize_mode"] == "shortest" and len(cfg["mean"]) == len(cfg["std"]) == 3
    pixels = [vit.transform(random_image("RGB", 40, 32, seed)) for seed in range(batch)]
    images = vit.prepare(torch.stack(pixels))
    session = session_of(folder.directory / "visual" / "model.onnx")
    (output,) = session.get_outputs()
    assert output.name == "embedding"
    (found,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        expected = vit.model.encode_image(images, normalize=True)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-6)


def test_features_of_any_length_are_written_if_asked_for(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    written = export_onnx(small("siglip"), tmp_path / "out", normalize=False, opset=20)
    assert all(tower.difference < 1e-5 for tower in written.towers.values())
    session = session_of(tmp_path / "out" / "textual" / "model.onnx")
    ids = TOKENIZER(TEXTS).to(torch.int32)
    (found,) = session.run(None, {"text": ids.numpy()})
    lengths = torch.from_numpy(found).norm(dim=-1)
    assert (lengths - 1).abs().min() > 1e-3


def test_weights_of_8_bits_are_smaller_and_nearly_as_good(vit, folder, tmp_path):
    written = export_onnx(vit, tmp_path / "out", int8=True)
    assert names_in(tmp_path / "out") == names_in(folder.directory)
    for name, tower in written.towers.items():
        assert tower.num_bytes < 0.6 * folder.towers[name].num_bytes
        assert 0.99 < tower.cosines.min() < tower.cosines.max() <= 1 + 1e-6
        assert tower.cosines.min() < 1 - 1e-9 and tower.difference < 1e-5


def test_rclips_files_have_its_names_and_types(tmp_path):
    pytest.importorskip("onnx")
    config = with_layers(SMALL["vit"], 1)
    tokenizer = BytePairTokenizer()
    vision = replace(config.vision_cfg, image_size=(256, 256), patch_size=64)
    text = replace(config.text_cfg, vocab_size=tokenizer.vocab_size, context_length=77)
    model = build(replace(config, embed_dim=512, vision_cfg=vision, text_cfg=text))
    export_onnx(ready_of(model, 256, tokenizer), tmp_path / "out", layout="rclip")
    assert names_in(tmp_path / "out") == {"visual.onnx", "textual.onnx"}
    for name, type_, size in (("visual", "tensor(float)", 4), ("textual", "tensor(int64)", 2)):
        session = session_of(tmp_path / "out" / f"{name}.onnx")
        (given,), (returned,) = session.get_inputs(), session.get_outputs()
        assert (given.name, returned.name, given.type) == ("input", "output", type_)
        assert given.shape[0] == "batch" and len(given.shape) == size


class Mean(nn.Module):
    """An encoder that a user wrote."""

    num_features = 3

    def forward(self, batch):
        return batch.float().flatten(2).mean(-1) if batch.ndim == 4 else batch[:, :3].float()


class FixedBatch(Mean):
    def forward(self, batch):
        return super().forward(batch) + torch.ones(int(batch.shape[0]), 1)


class Eigenvalues(Mean):
    def forward(self, batch):
        return torch.linalg.eigvalsh(batch[:, :, :3, :3].mean(1))


def test_encoders_of_any_kind_are_exported_if_they_can_be(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    written = export_onnx(ready_of(TwoTower(Mean(), Mean(), 8).eval()), tmp_path / "out")
    assert all(tower.difference < 1e-5 for tower in written.towers.values())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_cfg"] == {"context_length": 9}


@pytest.mark.parametrize(
    "encoder, objection",
    [
        (FixedBatch(), "image tower: (onnxruntime fails for|a batch of) "),
        (Eigenvalues(), "image tower cannot be exported to ONNX: "),
    ],
)
def test_nothing_is_left_of_a_tower_that_cannot_be_exported(encoder, objection, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    with pytest.raises(CheckpointError, match=objection):
        export_onnx(ready_of(TwoTower(encoder, Mean(), 8).eval()), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_features_that_differ(vit, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "TOLERANCE", 1e-12)
    with pytest.raises(CheckpointError, match=r"differ from torch's by \d\.\de-0\d"):
        export_onnx(vit, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_nothing_is_claimed(vit, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    written = export_onnx(vit, tmp_path / "out")
    assert [tower.difference for tower in written.towers.values()] == [None, None]


def test_missing_packages_are_named_with_the_extra(vit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs onnx: .*pip install "onnx>='):
        export_onnx(vit, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnx", sys)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match="8-bit weights need onnxruntime"):
        export_onnx(vit, tmp_path / "out", int8=True)
    assert not list(tmp_path.iterdir())


def test_arguments_that_cannot_be_obeyed_are_named(vit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", sys)
    for options, objection in (
        ({"layout": "flat"}, "layout must be one of immich, rclip, got 'flat'"),
        ({"opset": 9}, "opset must be one of 17, 18, 19, 20, got 9"),
        ({"layout": "rclip"}, "rclip cannot use small: its tokenizer is not OpenAI's.*512 numbers"),
    ):
        with pytest.raises(ValueError, match=objection):
            export_onnx(vit, tmp_path / "out", **options)
    half = replace(vit, model=build(SMALL["vit"]).to(torch.bfloat16))
    with pytest.raises(ValueError, match="on the CPU and in float32"):
        export_onnx(half, tmp_path / "out")
    with pytest.raises(ValueError, match="both towers"):
        export_onnx(replace(vit, only="text"), tmp_path / "out")
    model = build(SMALL["vit"])
    model.visual.output_tokens = True
    with pytest.raises(ValueError, match="output_tokens=True cannot be exported"):
        export_onnx(replace(vit, model=model), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def settings_of(ready, directory):
    (directory / "visual").mkdir()
    (directory / "textual").mkdir()
    write_settings(directory, ready)
    return {p.name: json.loads(p.read_text()) for p in directory.rglob("*.json")}


def test_settings_are_open_clips_words(vit, tmp_path):
    files = settings_of(
        replace(vit, preprocess_cfg=PreprocessCfg((32, 32), std=0.5).to_dict()), tmp_path
    )
    assert files["config.json"]["embed_dim"] == 48
    assert files["config.json"]["vision_cfg"]["image_size"] == 32
    assert files["preprocess_cfg.json"]["std"] == [0.5, 0.5, 0.5]
    assert files["tokenizer.json"]["padding"]["pad_id"] == 0


def test_timms_random_interpolation_is_written_as_what_it_is_here(vit, tmp_path):
    cfg = PreprocessCfg(32, interpolation="random").to_dict()
    files = settings_of(replace(vit, preprocess_cfg=cfg), tmp_path)
    assert files["preprocess_cfg.json"]["interpolation"] == "bicubic"


def test_tokenizer_whose_file_would_have_other_ids_is_refused(vit, tmp_path):
    pytest.importorskip("tokenizers")

    class Backwards(BytePairTokenizer):
        def encode(self, text):
            return super().encode(text)[::-1]

    odd = Backwards(TOKENIZER.vocabulary, context_length=9)
    with pytest.raises(CheckpointError, match=r"would give other ids than the tokenizer of small"):
        settings_of(replace(vit, tokenizer=odd), tmp_path)


def test_weights_in_many_files_are_gathered_in_one(folder, tmp_path):
    import onnx

    path = tmp_path / "model.onnx"
    source = folder.directory / "visual" / "model.onnx"
    model = onnx.load(str(source))
    onnx.save_model(
        model, str(path), save_as_external_data=True, all_tensors_to_one_file=False,
        size_threshold=1000,
    )  # fmt: skip
    assert len(list(tmp_path.iterdir())) > 3
    gather_weights(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    images = {"image": torch.randn(2, 3, 32, 32).numpy()}
    (found,), (expected,) = (session_of(p).run(None, images) for p in (path, source))
    assert (found == expected).all()
    gather_weights(path)  # which finds nothing to do
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
