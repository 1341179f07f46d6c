"""Text towers of transformers beside open_clip's own, from the same random weights."""

import pytest
import torch

from fastclip.models.towers.hugging_face.config import HfTextConfig
from fastclip.models.unfilled import unfilled
from tests.support.hugging_face_towers import ENCODERS, hf_text, open_clips, texts

POOLERS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
PAIRS = [
    *((kind, "mean_pooler", "mlp") for kind in ENCODERS),
    *((kind, "cls_pooler", "linear") for kind in ENCODERS),
    ("roberta", "cls_last_hidden_state_pooler", "mlp"),
    ("m2m_100", "cls_last_hidden_state_pooler", None),
    ("mt5", "mean_pooler", None),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


def both(kind, place, pooler="mean_pooler", proj="mlp", **settings):
    torch.manual_seed(0)
    config = hf_text(kind, place, hf_pooler_type=pooler, hf_proj_type=proj, **settings)
    embed_dim = 24 if proj else 32
    theirs = open_clips(config, embed_dim)
    ours = config.build(embed_dim).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return config, ours, theirs


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind, pooler, proj", PAIRS)
def test_features_and_gradients_are_open_clips(kind, pooler, proj, place):
    config, ours, theirs = both(kind, place, pooler, proj)
    tokens = texts(config)
    found, expected = ours(tokens), theirs(tokens)
    close(found, expected)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert sum(g is not None for g in gradients.values()) > 10
    for name, parameter in ours.named_parameters():
        if gradients[name] is None:
            assert parameter.grad is None, name
        else:
            close(parameter.grad, gradients[name])


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_state_dict_is_open_clips(kind, place):
    _, ours, theirs = both(kind, place, "cls_pooler", "mlp")
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("kind, pooler", [("roberta", "cls_pooler"), ("mt5", "mean_pooler")])
def test_tokens_are_open_clips(kind, pooler, place):
    config, ours, theirs = both(kind, place, pooler, output_tokens=True)
    for found, expected in zip(ours(texts(config)), theirs(texts(config)), strict=True):
        close(found, expected)


def test_the_maximum_is_over_what_is_not_padding(place):
    config = hf_text("roberta", place, hf_pooler_type="max_pooler", hf_proj_type=None)
    tower, tokens = config.build(32).eval(), texts(config)
    states = tower.transformer(tokens, attention_mask=(tokens != 1).long()).last_hidden_state
    for row, length in enumerate((5, 1, 9, 12)):
        close(tower(tokens)[row], states[row, :length].amax(0))


@pytest.mark.parametrize(
    "kind, pooler",
    [*((kind, "mean_pooler") for kind in ENCODERS), ("bert", "cls_pooler"), ("mt5", "max_pooler")],
)
def test_padding_behind_the_longest_text_changes_nothing(kind, pooler, place):
    config = hf_text(kind, place, hf_pooler_type=pooler)
    tower, tokens = config.build(24).eval(), texts(config)[:3]
    assert tower.text_lengths(tokens).tolist() == [5, 1, 9]
    torch.testing.assert_close(tower(tokens[:, :9]), tower(tokens), rtol=1e-4, atol=1e-6)


def test_a_text_of_padding_alone_has_numbers(place):
    config = hf_text("mt5", place)
    tower, tokens = config.build(24).eval(), texts(config)
    tokens[1] = 0
    assert tower(tokens).isfinite().all()
    assert tower.text_lengths(tokens)[1] == 1


@pytest.mark.parametrize("unlocked", [0, 1, 2])
@pytest.mark.parametrize("freeze_norms", [True, False])
def test_the_same_parameters_as_in_open_clip_are_locked(unlocked, freeze_norms, place):
    _, ours, theirs = both("roberta", place)
    for tower in (ours, theirs):
        tower.lock(unlocked, freeze_norms)
    expected = {name: p.requires_grad for name, p in theirs.named_parameters()}
    assert {name: p.requires_grad for name, p in ours.named_parameters()} == expected


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_kind_is_locked_layer_by_layer(kind, place):
    tower = hf_text(kind, place).build(24)
    tower.lock()
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert trained == {"proj.0.weight", "proj.2.weight"}
    tower.lock(unlocked_layers=1)
    blocks = {name.split(".")[2 if "encoder" in name else 1]: p.requires_grad
              for name, p in tower.transformer.named_parameters()
              if any(part in name for part in ("layer.", "layers.", "block."))}  # fmt: skip
    assert blocks == {"0": False, "1": True}
    with pytest.raises(ValueError, match="unlocked groups"):
        tower.lock(unlocked_layers=4)


@pytest.mark.parametrize("kind", ["roberta", "mt5", "m2m_100"])
def test_checkpointing_changes_no_gradient_and_can_be_taken_back(kind, place):
    config = hf_text(kind, place)
    tower = config.build(24)
    for module in tower.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    gradients = []
    for enable in (False, True, False):
        tower.set_grad_checkpointing(enable)
        tower.train().zero_grad()
        tower(texts(config)).square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters() if p.grad is not None])
        assert any(getattr(m, "gradient_checkpointing", False) for m in tower.modules()) == enable
    for found in gradients[1:]:
        for one, other in zip(found, gradients[0], strict=True):
            close(one, other)


@pytest.mark.parametrize("kind", ENCODERS)
def test_tables_that_no_file_has_are_computed_after_a_build_without_data(kind, place):
    config = hf_text(kind, place)
    tower = config.build(24).eval()
    with unfilled():
        again = config.build(24).eval()
    again.fill_buffers()
    again.load_state_dict(tower.state_dict(), assign=True)
    for name, buffer in tower.named_buffers():
        assert torch.equal(buffer, dict(again.named_buffers())[name]), name
    assert torch.equal(again(texts(config)), tower(texts(config)))


@pytest.mark.parametrize(
    "tokens, error",
    [
        (torch.ones(2, 19, dtype=torch.int64), ValueError),
        (torch.ones(2, 0, dtype=torch.int64), ValueError),
        (torch.ones(12, dtype=torch.int64), ValueError),
        (torch.ones(2, 12), TypeError),
    ],
)
def test_other_inputs_are_refused(tokens, error, place):
    tower = hf_text("roberta", place).build(24)
    with pytest.raises(error, match="tokens must be"):
        tower(tokens)


def test_the_longest_text_is_read(place):
    config = HfTextConfig(hf_text("roberta", place).hf_model_name, context_length=18)
    assert config.longest_text == 18
    assert config.build(24).eval()(texts(config, 18)).shape == (4, 24)
    with pytest.raises(ValueError, match="context_length 19 is more than the 18 positions"):
        HfTextConfig(config.hf_model_name, context_length=19)


def test_without_transformers_the_error_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "transformers'):
        HfTextConfig("roberta-base").build(512)
