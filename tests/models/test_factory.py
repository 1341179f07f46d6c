"""Models, transforms and tokenizers by name."""

import json
from dataclasses import replace

import pytest
import torch

from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.models import registry
from fastclip.models.build import changed_config
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.clip import CLIP
from fastclip.models.factory import (
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
)
from fastclip.models.open_clip_config import to_json
from fastclip.models.presets import PRESETS
from fastclip.models.registry import add_model_config, get_model_config, list_models
from fastclip.models.tokenizer import get_tokenizer
from fastclip.models.towers.tips.text_config import TipsTextConfig
from fastclip.models.two_tower import CustomTextCLIP
from tests.support.small_models import COCA, SMALL, build, inputs


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """The registry as it was, with small models under names like the real ones."""
    small = {
        "Small-B-8": SMALL["vit"],
        "Small-B-8-quickgelu": SMALL["quick_gelu"],
        "Small-SigLIP": SMALL["siglip"],
        "Small-RN": SMALL["resnet"],
    }
    monkeypatch.setattr(registry, "architectures", {**PRESETS, **small})


@pytest.fixture
def weights(tmp_path):
    model = build(SMALL["vit"])
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, tmp_path / "epoch_1.pt")
    return tmp_path / "epoch_1.pt", model


def test_names_are_open_clips():
    assert {"ViT-B-32", "ViT-L-14-336-quickgelu", "RN50x64", "ViT-B-16-SigLIP2-256"} <= set(
        list_models()
    )


@pytest.mark.parametrize(
    "spelling, name",
    [
        ("ViT-B/32", "ViT-B-32"),
        ("ViT-L/14@336px", "ViT-L-14-336"),
        ("RN50x16", "RN50x16"),
        ("ViT-L-14", "ViT-L-14"),
    ],
)
def test_openais_spellings_are_names_too(spelling, name):
    assert get_model_config(spelling) == PRESETS[name]


@pytest.mark.parametrize("function", [create_model, get_tokenizer, get_model_config])
def test_unknown_name_lists_near_ones(function):
    with pytest.raises(ValueError, match="no model 'ViT-B-31': similar names are ViT-B-32"):
        function("ViT-B-31")


def test_model_is_of_its_kind_in_training_mode_with_its_preprocessing():
    model = create_model("Small/B/8")
    assert type(model) is CLIP and model.training and model.config == SMALL["vit"]
    assert model.visual.preprocess_cfg["size"] == (32, 32)
    assert model.visual.image_mean == (0.48145466, 0.4578275, 0.40821073)
    siglip = create_model("Small-SigLIP", output_dict=True)
    assert type(siglip) is CustomTextCLIP
    assert siglip.visual.preprocess_cfg["mean"] == (0.5, 0.5, 0.5)
    assert siglip.visual.preprocess_cfg["resize_mode"] == "squash"
    assert siglip(*inputs(SMALL["siglip"]))["logit_bias"].item() == -10


def test_weights_are_loaded_from_a_path(weights):
    path, model = weights
    loaded = create_model("Small-B-8", pretrained=path)
    state = model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
    assert all(p.requires_grad and p.is_leaf for p in loaded.parameters())


def test_sixteen_bit_weights_become_float32(weights, tmp_path):
    _, model = weights
    torch.save(model.half().state_dict(), tmp_path / "half.pt")
    loaded = create_model("Small-B-8", pretrained=tmp_path / "half.pt")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert create_model("Small-B-8", precision="pure_bf16").dtype == torch.bfloat16


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
@pytest.mark.parametrize("layout", ["open_clip", "hf"])
def test_directory_is_model_weights_and_preprocessing(prefix, layout, tmp_path):
    model = build(SMALL["quick_gelu"])
    model.visual.preprocess_cfg = {"size": 32, "mean": (0.1, 0.2, 0.3), "resize_mode": "squash"}
    save_pretrained(model, tmp_path / "model", layout=layout)
    name = f"{prefix}{tmp_path / 'model'}"
    loaded, _, preprocess = create_model_and_transforms(name)
    assert loaded.config == model.config
    assert preprocess.cfg.mean == (0.1, 0.2, 0.3) and preprocess.cfg.resize_mode == "squash"
    assert torch.equal(loaded.visual.proj, model.visual.proj)
    random = create_model(name, load_weights=False)
    assert not torch.equal(random.visual.proj, model.visual.proj)
    with pytest.raises(ValueError, match="has weights of its own"):
        create_model(name, pretrained="openai")


def test_directory_of_weights_fits_a_name(tmp_path):
    save_pretrained(build(SMALL["quick_gelu"]), tmp_path / "hf", layout="hf")
    create_model("Small-B-8-quickgelu", pretrained=tmp_path / "hf")
    with pytest.raises(ActivationMismatchError, match="quick_gelu, the model has gelu"):
        create_model("Small-B-8", pretrained=tmp_path / "hf")
    create_model("Small-B-8", pretrained=tmp_path / "hf", force_quick_gelu=True)


def test_missing_places_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory /nowhere"):
        create_model("local-dir:/nowhere")
    with pytest.raises(ValueError, match=r"neither a file nor a tag of .*; its tags: openai"):
        create_model("RN50x4", pretrained="laion")
    with pytest.raises(ValueError, match="tags: none"):
        create_model("Small-B-8", pretrained="openai")


def test_architecture_is_changed_as_asked():
    model = create_model(
        "Small-B-8", force_quick_gelu=True, force_custom_text=True, force_patch_dropout=0.5,
        force_image_size=(16, 24), force_context_length=5, init_logit_bias=-10.0,
        init_logit_scale=1.0,
    )  # fmt: skip
    assert type(model) is CustomTextCLIP
    assert model.config.activations == ("quick_gelu", "quick_gelu")
    assert model.visual.patch_dropout.prob == 0.5 and model.visual.grid_size == (2, 3)
    assert model.context_length == 5
    assert (model.logit_scale.item(), model.logit_bias.item()) == (1.0, -10.0)
    assert model.visual.preprocess_cfg["size"] == (16, 24)


def test_quick_gelu_of_a_resnet_is_its_text_towers():
    model = create_model("Small-RN", force_quick_gelu=True)
    assert model.config.activations == (None, "quick_gelu")


def test_unknown_field_is_a_type_error():
    with pytest.raises(TypeError, match="nonsense"):
        create_model("Small-B-8", nonsense=1)


def test_weights_are_resized_to_a_forced_size_and_not_otherwise(weights):
    path, _ = weights
    model = create_model("Small-B-8", path, force_image_size=64, force_context_length=20)
    assert model.visual.positional_embedding.shape == (65, 128)
    assert model.positional_embedding.shape == (20, 128)
    registry.architectures["Larger"] = replace(
        SMALL["vit"], vision_cfg=replace(SMALL["vit"].vision_cfg, image_size=64)
    )
    with pytest.raises(CheckpointError, match=r"of another shape: visual.positional_embedding"):
        create_model("Larger", path)


@pytest.mark.parametrize("name", ["Small-B-8", "Small-SigLIP"])
def test_weights_of_single_towers_are_loaded_last(name, tmp_path):
    model = build(registry.architectures[name], seed=7)
    torch.save(model.visual.state_dict(), tmp_path / "image.pt")
    is_flat = isinstance(model, CLIP)
    text = {k: v for k, v in model.state_dict().items() if not k.startswith(("visual", "logit"))}
    torch.save(text if is_flat else model.text.state_dict(), tmp_path / "text.pt")
    loaded = create_model(
        name, pretrained_image_path=tmp_path / "image.pt", pretrained_text_path=tmp_path / "text.pt"
    )
    state = model.state_dict()
    for key, value in loaded.state_dict().items():
        assert "logit" in key or torch.equal(value, state[key]), key
    with pytest.raises(CheckpointError, match="missing"):
        create_model(name, pretrained_image_path=tmp_path / "text.pt")


def test_pretrained_model_needs_weights(weights):
    with pytest.raises(CheckpointError, match="without weights"):
        create_model_from_pretrained("Small-B-8")
    model, preprocess = create_model_from_pretrained("Small-B-8", pretrained=weights[0])
    assert preprocess.cfg.height_width == model.visual.image_size
    alone = create_model_from_pretrained("Small-B-8", weights[0], return_transform=False)
    assert isinstance(alone, CLIP)


@pytest.mark.parametrize("name", ["Small-B-8", "Small-RN", "Small-SigLIP"])
def test_jit_returns_a_program_that_computes_the_same(name, tmp_path):
    model = build(registry.architectures[name])
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    program, _, preprocess = create_model_and_transforms(name, tmp_path / "weights.pt", jit=True)
    assert isinstance(program, torch.jit.ScriptModule)
    images, tokens = inputs(model.config, batch_size=5)
    with torch.no_grad():
        assert torch.equal(program.encode_image(images), model.encode_image(images))
        assert torch.equal(program.encode_text(tokens), model.encode_text(tokens))
    assert preprocess.cfg.height_width == model.visual.image_size


def test_third_argument_may_be_the_precision_as_in_open_clip_2(weights):
    for make in (create_model, lambda *a: create_model_and_transforms(*a)[0]):
        model = make("Small-B-8", weights[0], "bf16")
        assert model.visual.proj.dtype == torch.bfloat16
        assert torch.equal(model.logit_scale, weights[1].logit_scale)
    assert create_model_from_pretrained("Small-B-8", weights[0], "bf16")[0].dtype == torch.bfloat16
    with pytest.raises(
        TypeError, match=r"load_weights='fp16' and precision='cpu' are both .* by name"
    ):
        create_model("Small-B-8", None, "fp16", "cpu")
    with pytest.raises(ValueError, match="precision must be one of"):
        create_model("Small-B-8", None, "cpu")


def test_older_and_further_names_of_arguments_are_taken():
    model = create_model(
        "Small-B-8", pretrained_hf=False, output_dict=None, nonscalar_logit_scale=True
    )
    assert model.logit_scale.shape == (1,) and model.output_dict is False


def test_tags_are_taken_in_any_spelling(monkeypatch):
    asked = []

    def fetched(repository, cache_dir):
        asked.append((repository, cache_dir))
        raise CheckpointError("not here")

    monkeypatch.setattr("fastclip.models.factory.fetch_repository", fetched)
    with pytest.raises(CheckpointError, match="not here"):
        create_model("ViT-B/32", "laion2B-s34B-b79K", cache_dir="there")
    assert asked == [("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "there")]


@pytest.mark.parametrize("cache_dir", [None, "there"])
def test_tokenizers_take_a_cache_directory(cache_dir, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("fastclip.models.tokenizer.SimpleTokenizer", lambda **s: made.append(s))
    monkeypatch.setattr("fastclip.models.tokenizer.HFTokenizer", lambda n, **s: made.append(s))
    monkeypatch.setattr("fastclip.models.tokenizer.find_vocabulary", lambda _, cache_dir: cache_dir)
    get_tokenizer("ViT-B-32", cache_dir=cache_dir)
    get_tokenizer("ViT-B-16-SigLIP", cache_dir=cache_dir)
    assert made[0] == {"context_length": 77, "vocabulary": cache_dir}
    assert made[1] == {"context_length": 64, "cache_dir": cache_dir, "clean": "canonicalize"}


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(pretrained_image=True), "no image tower of timm"),
        (dict(weights_only=False), "run code"),
    ],
)
def test_open_clips_settings_that_would_mean_something_else_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        create_model("Small-B-8", **settings)


def test_open_clips_trainers_call_is_taken():
    model, _, _ = create_model_and_transforms(
        "Small-B-8", "", precision="fp32", device="cpu", jit=False, force_quick_gelu=False,
        force_custom_text=False, force_patch_dropout=None, force_image_size=None,
        force_context_length=None, image_mean=None, image_std=None, image_interpolation=None,
        image_resize_mode=None, aug_cfg={}, pretrained_image=False, output_dict=True,
        cache_dir=None,
    )  # fmt: skip
    assert model.output_dict


def test_transforms_follow_the_settings():
    _, train, evaluate = create_model_and_transforms(
        "Small-B-8", image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 1.0, 1.0),
        image_interpolation="bilinear", image_resize_mode="longest",
        aug_cfg={"scale": (0.4, 1.0), "gray_scale_prob": 0.2},
    )  # fmt: skip
    assert evaluate.cfg.mean == train.cfg.mean == (0.1, 0.2, 0.3)
    assert (evaluate.cfg.interpolation, evaluate.cfg.resize_mode) == ("bilinear", "longest")
    assert train.aug_cfg.scale == (0.4, 1.0) and train.aug_cfg.gray_scale_prob == 0.2


def test_configurations_are_added_from_a_file_and_a_directory(tmp_path):
    for name in ("One", "Two"):
        values = to_json(SMALL["vit"]) | {"embed_dim": 40}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    add_model_config(tmp_path / "One.json")
    assert "One" in list_models() and "Two" not in list_models()
    add_model_config(str(tmp_path))
    assert create_model("Two").visual.output_dim == 40
    (tmp_path / "Bad.json").write_text('{"embed_dim": 3}')
    with pytest.raises(ValueError, match=r"Bad\.json: not a model configuration: vision_cfg"):
        add_model_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        add_model_config(tmp_path / "nowhere")


def test_tokenizer_of_a_name_has_its_length():
    tokenizer = get_tokenizer("ViT-B-32")
    assert isinstance(tokenizer, BytePairTokenizer)
    assert tokenizer(["a dog"]).tolist()[0][:4] == [49406, 320, 1929, 49407]
    assert get_tokenizer("ViT-B-32", context_length=9)("a dog").shape == (1, 9)
    assert get_tokenizer()("a dog").shape == (1, 77)


def test_hugging_face_tokenizer_is_taken_from_the_directory(tmp_path):
    from tests.support.peers import transformers

    tokenizers = pytest.importorskip("tokenizers")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "dog": 3}, "<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(tmp_path / "tokenizer")
    for layout in ("open_clip", "hf"):
        config = SMALL["siglip"]
        if layout == "open_clip":
            named = replace(config.text_cfg, hf_tokenizer_name="timm/ViT-B-16-SigLIP")
            vision = PRESETS["ViT-B-16-SigLIP"].vision_cfg
            config = replace(config, vision_cfg=vision, text_cfg=named, embed_dim=768)
        save_pretrained(
            build(config), tmp_path / layout, layout, tokenizer_directory=tmp_path / "tokenizer"
        )
        tokens = get_tokenizer(f"local-dir:{tmp_path / layout}")("dog dog")
        assert tokens.shape == (1, 9) and tokens[0, :2].tolist() == [3, 3]


def test_fields_that_only_fit_together_are_changed_together():
    def changed(config, context_length=None, quick_gelu=False, **fields):
        return changed_config(config, quick_gelu, False, None, None, context_length, fields)

    text = TipsTextConfig(9, 60, width=32, heads=4, layers=2)  # which stands alone
    fields = dict(text_cfg=text, custom_text=True, embed_dim=32)
    assert changed(SMALL["vit"], **fields) == replace(SMALL["vit"], **fields)
    with pytest.raises(ValueError, match="custom_text must be true"):
        changed(SMALL["vit"], text_cfg=text, embed_dim=32)
    of_coca = {name: getattr(COCA, name) for name in ("vision_cfg", "text_cfg", "multimodal_cfg")}
    of_coca |= dict(embed_dim=COCA.embed_dim, custom_text=True)
    assert changed(SMALL["vit"], **of_coca) == COCA
    # A decoder that is given whole is changed as towers are.
    forced = changed(SMALL["vit"], 7, True, **of_coca)
    assert forced.multimodal_cfg == replace(
        COCA.multimodal_cfg, context_length=7, activation="quick_gelu"
    )
    assert forced == changed(COCA, 7, True)
    with pytest.raises(ValueError, match="multimodal_cfg must be a MultimodalConfig, got 3"):
        changed(COCA, 7, multimodal_cfg=3)
    fields = dict(vision_cfg=SMALL["vit"].vision_cfg, text_cfg=SMALL["vit"].text_cfg)
    alone = changed(COCA, 7, multimodal_cfg=None, embed_dim=48, custom_text=False, **fields)
    assert alone == changed(SMALL["vit"], 7)


def test_name_with_a_vocabulary_of_its_own_asks_for_the_tokenizer():
    with pytest.raises(ValueError, match="'Small-B-8' does not name its tokenizer"):
        get_tokenizer("Small-B-8")


def test_weights_without_a_bias_get_one_of_zero_where_one_is_asked_for(tmp_path):
    save_pretrained(build(SMALL["vit"]), tmp_path / "clip")
    name = f"local-dir:{tmp_path / 'clip'}"
    assert create_model(name).logit_bias is None
    assert create_model(name, init_logit_bias=-10.0).logit_bias.item() == 0.0
    with_bias = replace(SMALL["vit"], init_logit_bias=-7.0)
    save_pretrained(build(with_bias), tmp_path / "siglip")
    found = create_model(f"local-dir:{tmp_path / 'siglip'}", init_logit_bias=-3.0)
    assert found.logit_bias.item() == -7.0
