"""A `TwoTower` is written with what it is made of, and read again with the same features."""

import json

import pytest
import torch
from torch import nn

import fastclip
from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.encoder_tower import EncoderTower
from fastclip.models.two_tower import TwoTower
from fastclip.models.two_tower_config import TWO_TOWER_CONFIG
from tests.support.small_models import SMALL, build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
IDS = {"input_ids": torch.arange(12).view(2, 6)}


def timms(**settings):
    from tests.support.peers import timm

    settings = {"num_classes": 0, "img_size": 64, **settings}
    return timm.create_model("test_vit", **settings)


def berts(**settings):
    from tests.support.peers import transformers

    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=50,
    )  # fmt: skip
    return transformers.BertModel(config, **settings)


class Own(nn.Module):
    num_features = 6

    def __init__(self, rows=20):
        super().__init__()
        self.embedding = nn.Embedding(rows, 6)

    def forward(self, input_ids):
        return self.embedding(input_ids).mean(1)


def encoded(model, side=64):
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images, IDS)


def written(model, tmp_path):
    fastclip.save_pretrained(model, tmp_path / "pair")
    return tmp_path / "pair"


def libraries(path):
    values = json.loads((path / TWO_TOWER_CONFIG).read_text())
    return [values[side]["encoder"]["library"] for side in ("image", "text")]


@pytest.mark.parametrize(
    "image, text",
    [({}, {}), (dict(num_classes=5), {}), (dict(global_pool="avg"), dict(add_pooling_layer=False))],
)
def test_timms_and_transformers_models_come_back_from_their_directory_alone(image, text, tmp_path):
    torch.manual_seed(0)
    pool = "auto" if not text else "mean"
    model = TwoTower(
        EncoderTower(timms(**image), 16), EncoderTower(berts(**text), 16, pool=pool),
        init_logit_bias=-10.0, output_dict=True,
    )  # fmt: skip
    path = written(model, tmp_path)
    assert libraries(path) == ["timm", "transformers"]
    expected = encoded(model)
    for again in (TwoTower.from_pretrained(path), fastclip.create_model(f"local-dir:{path}")):
        assert again.training and again.text.pool == pool
        found = encoded(again)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    for output_dict in (True, False):
        again = fastclip.create_model(f"local-dir:{path}", output_dict=output_dict)
        assert again.output_dict is output_dict


def test_an_encoder_of_ones_own_is_asked_for_by_name(tmp_path):
    torch.manual_seed(0)
    model = TwoTower(timms(), Own(), embed_dim=16)
    path = written(model, tmp_path)
    for read in (TwoTower.from_pretrained, lambda path: fastclip.create_model(str(path))):
        with pytest.raises(CheckpointError, match=r"text encoder is a .*Own.*text_encoder="):
            read(path)
    again = TwoTower.from_pretrained(path, text_encoder=Own())
    for one, other in zip(encoded(again), encoded(model), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(KeyMismatchError, match="embedding"):
        TwoTower.from_pretrained(path, text_encoder=Own(rows=21))


def change_a_setting(model):
    model.norm.eps = 1e-3


def replace_a_module(model):
    model.blocks[0].mlp.act = nn.ReLU()


def watch(model):
    model.register_forward_hook(lambda module, args, output: 2 * output)


@pytest.mark.parametrize("change", [change_a_setting, replace_a_module, watch])
def test_an_encoder_that_was_changed_is_not_taken_for_timms(change, tmp_path):
    encoder = timms()
    change(encoder)
    path = written(TwoTower(encoder, berts(), embed_dim=16), tmp_path)
    assert libraries(path) == [None, "transformers"]
    with pytest.raises(CheckpointError, match="image_encoder="):
        TwoTower.from_pretrained(path)


def test_an_argument_that_nothing_records_is_noticed(tmp_path):
    path = written(TwoTower(timms(depth=1), berts(), embed_dim=16), tmp_path)
    assert libraries(path) == [None, "transformers"]
    assert TwoTower.from_pretrained(path, image_encoder=timms(depth=1)).output_dict is False


def test_towers_without_projection_keep_that(tmp_path):
    torch.manual_seed(0)
    model = TwoTower(timms(num_classes=16), EncoderTower(berts(), 16))
    model.set_grad_checkpointing()
    again = TwoTower.from_pretrained(written(model, tmp_path))
    assert not isinstance(again.visual, EncoderTower)
    assert torch.equal(encoded(again)[0], encoded(model)[0])


def test_tied_weights_and_preprocessing_are_written(tmp_path):
    from fastclip.data.preprocess import PreprocessCfg

    text = Own()
    text.tied = nn.Linear(6, 20, bias=False)
    text.tied.weight = text.embedding.weight
    model = TwoTower(timms(), text, embed_dim=16)
    model.visual.preprocess_cfg = PreprocessCfg(64, mean=0.25).to_dict()
    path = written(model, tmp_path)
    given = Own()
    given.tied = nn.Linear(6, 20, bias=False)
    given.tied.weight = given.embedding.weight
    again = TwoTower.from_pretrained(path, text_encoder=given)
    assert again.visual.preprocess_cfg == json.loads(json.dumps(model.visual.preprocess_cfg))
    assert torch.equal(again.text.encoder.tied.weight, text.embedding.weight)


def test_transforms_come_with_the_model_or_are_asked_for(tmp_path):
    from fastclip.data.preprocess import PreprocessCfg

    model = TwoTower(timms(), berts(), embed_dim=16)
    (tmp_path / "without").mkdir()
    path = written(model, tmp_path / "without")
    with pytest.raises(ValueError, match="does not say how its images are prepared"):
        fastclip.create_model_and_transforms(str(path))
    model.visual.preprocess_cfg = PreprocessCfg(64).to_dict()
    _, _, preprocess = fastclip.create_model_and_transforms(str(written(model, tmp_path)))
    assert preprocess.cfg.height_width == (64, 64)


def test_changes_of_architecture_and_damaged_files_are_refused(tmp_path):
    path = written(TwoTower(timms(), berts(), embed_dim=16), tmp_path)
    with pytest.raises(ValueError, match="force_image_size=32 must be left out: a TwoTower"):
        fastclip.create_model(str(path), force_image_size=32)
    values = json.loads((path / TWO_TOWER_CONFIG).read_text())
    values["text"]["encoder"]["class"] = "pipeline"
    (path / TWO_TOWER_CONFIG).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="damaged"):
        TwoTower.from_pretrained(path)
    (path / TWO_TOWER_CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        TwoTower.from_pretrained(path)
    with pytest.raises(FileNotFoundError, match="holds no TwoTower"):
        TwoTower.from_pretrained(tmp_path)


def test_built_in_pairs_are_written_as_before(tmp_path):
    model = build(SMALL["custom_text"])
    fastclip.save_pretrained(model, tmp_path / "out")
    assert (tmp_path / "out" / "open_clip_config.json").is_file()


def test_what_both_sides_share_they_share_again(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(x)

    x = torch.randn(2, 6)
    for name, model in (
        ("encoder", TwoTower(*[Both()] * 2, embed_dim=None)),
        ("tower", TwoTower(*[EncoderTower(Both(), 4, width=6)] * 2)),
        ("projections", TwoTower(*[EncoderTower(each, 4, width=6) for each in [Both()] * 2])),
        ("nothing", TwoTower(*[EncoderTower(Both(), 4, width=6) for _ in range(2)])),
    ):
        path = tmp_path / name
        fastclip.save_pretrained(model, path)
        given = {"image_encoder": Both()} | ({"text_encoder": Both()} if name == "nothing" else {})
        again = TwoTower.from_pretrained(path, **given)
        assert sum(p.numel() for p in again.parameters()) == sum(
            p.numel() for p in model.parameters()
        )
        assert torch.equal(again.visual(x), model.visual(x))
        assert torch.equal(again.text(x), model.text(x))


@pytest.mark.parametrize(
    "head", [nn.Linear(64, 16), nn.Sequential(nn.Linear(64, 8, bias=False), nn.Linear(8, 16))]
)
def test_a_head_of_ones_own_is_used_and_asked_for(head, tmp_path):
    model = TwoTower(timms(), berts(), embed_dim=16)
    model.visual.proj = head
    features = encoded(model)[0]
    path = written(model, tmp_path)
    with pytest.raises(CheckpointError, match="EncoderTower, which fastclip cannot build"):
        TwoTower.from_pretrained(path)
    tower = EncoderTower(timms(), 16)
    tower.proj = head
    again = TwoTower.from_pretrained(path, image_encoder=tower)
    assert torch.equal(encoded(again)[0], features)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"arguments": {"num_classes": 0, "checkpoint_path": "evil.pth"}}, "arguments checkpoint_"),
        ({"arguments": {"num_classes": 0, "pretrained": True}}, "unknown arguments pretrained"),
        ({"name": "hf-hub:evil/model"}, "timm has no model 'hf-hub:evil/model'"),
        ({"library": "transformers", "class": "BertModel", "config_class": "BertConfig",
          "config": {"num_hidden_layers": 10**9}, "arguments": {}}, "num_hidden_layers is 10000"),
        ({"library": "transformers", "class": "BertModel", "config_class": "BertConfig",
          "config": {"a": {"_attn_implementation": "evil/kernel"}}, "arguments": {}}, "evil/k"),
    ],
)  # fmt: skip
def test_a_description_asks_for_no_files_no_code_and_no_more_than_models_have(
    change, said, tmp_path
):
    from tests.support.peers import timm, transformers  # noqa: F401 (a stand-in of torchvision)

    encoder = {"library": "timm", "name": "test_vit", "arguments": {"num_classes": 0}} | change
    tower = {"projection": None, "encoder": encoder}
    values = {
        "output_dict": False, "has_logit_bias": False, "nonscalar_logit_scale": False,
        "preprocess_cfg": None, "shared": None, "image": tower, "text": tower,
    }  # fmt: skip
    (tmp_path / TWO_TOWER_CONFIG).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        TwoTower.from_pretrained(tmp_path)
    assert said in str(caught.value) and len(str(caught.value)) < 300
