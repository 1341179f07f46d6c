"""The tokenizer of a directory is the one that lies with the weights, whatever its size."""

import json
from dataclasses import replace

import pytest
import torch

import fastclip
from fastclip.cli import main
from fastclip.data.tokenizers import beside_weights
from fastclip.data.tokenizers.byte_pairs import OPENAI_SPECIAL_TOKENS, BytePairTokenizer
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from fastclip.data.tokenizers.vocabulary import CLIP_MERGES
from fastclip.models.checkpoints.stored_model import read_config
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.config import TextConfig
from fastclip.models.factory import create_model
from fastclip.models.fetch import fetch_repository
from fastclip.models.tokenizer import get_tokenizer
from tests.support.merges import two_byte_vocabulary
from tests.support.server import Handler, serve
from tests.support.small_models import SMALL, build

TEXT = TextConfig(context_length=24, vocab_size=49408, width=8, heads=1, layers=1)
CONFIG = replace(SMALL["quick_gelu"], text_cfg=replace(TEXT, activation="quick_gelu"))
OWN = two_byte_vocabulary(CLIP_MERGES)
CAPTIONS = ["An ox is at it", "A dog", "go to 9 x"]


@pytest.fixture(scope="module")
def model():
    return build(CONFIG)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    """A directory of transformers' without a tokenizer."""
    path = tmp_path_factory.mktemp("weights") / "hf"
    (path.parent / "none").mkdir()
    save_pretrained(model, path, "hf", tokenizer_directory=path.parent / "none")
    return path


@pytest.fixture
def directory(weights, tmp_path):
    """A directory of transformers' whose vocabulary is its own, and has as many tokens."""
    path = tmp_path / "own-clip"
    path.mkdir()
    for file in weights.iterdir():
        (path / file.name).symlink_to(file)
    BytePairTokenizer(OWN, 24).save_pretrained(path)
    return path


@pytest.fixture
def openai_directory(directory, monkeypatch):
    """The same, where its vocabulary is OpenAI's."""
    monkeypatch.setattr(beside_weights, "SHA256", OWN.sha256)
    return directory


def set_in(path, **values):
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


def theirs(directory):
    from tests.support.peers import transformers

    return transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)


def ids_of(directory, texts=CAPTIONS, length=24):
    padded = theirs(directory)(texts, padding="max_length", max_length=length, truncation=True)
    return torch.tensor(padded.input_ids)


def keep_only_tokenizer_json(directory):
    tokenizer = theirs(directory)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink()
    tokenizer.backend_tokenizer.save(str(directory / "tokenizer.json"))


def put_special_tokens_first(directory):
    """As a vocabulary is that `tokenizers` trained: the same merges, other ids."""
    start, end = OPENAI_SPECIAL_TOKENS
    tokens = (start, end, *OWN.tokens)
    (directory / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))


@pytest.mark.parametrize(
    "change", [lambda directory: None, keep_only_tokenizer_json, put_special_tokens_first]
)
def test_own_vocabulary_of_as_many_tokens_gives_its_own_ids(change, directory):
    change(directory)
    tokenizer = get_tokenizer(str(directory))
    assert isinstance(tokenizer, HFTokenizer)
    assert torch.equal(tokenizer(CAPTIONS), ids_of(directory))
    assert get_tokenizer(f"local-dir:{directory}", context_length=9)(CAPTIONS).shape == (3, 9)


def test_merges_of_openai_with_other_ids_are_not_openais(openai_directory):
    put_special_tokens_first(openai_directory)
    tokenizer = get_tokenizer(str(openai_directory))
    assert torch.equal(tokenizer(CAPTIONS), ids_of(openai_directory))


def test_files_that_contradict_each_other_are_not_openais(openai_directory):
    other = two_byte_vocabulary(CLIP_MERGES + 1)
    merges = [*other.merges[:-2], other.merges[-1]]
    ids = {"".join(pair): i for i, pair in enumerate(merges, 512)}
    whole = {"model": {"vocab": {t: i for i, t in enumerate(OWN.tokens[:512])} | ids}}
    whole["model"]["merges"] = [list(pair) for pair in merges]
    assert beside_weights.is_openai_vocabulary(openai_directory)
    (openai_directory / "tokenizer.json").write_text(json.dumps(whole))
    assert not beside_weights.is_openai_vocabulary(openai_directory)


def test_openais_vocabulary_beside_the_weights_needs_no_other_copy(openai_directory, monkeypatch):
    monkeypatch.setattr("fastclip.data.tokenizers.openai_vocabulary.SHA256", "of no file")
    tokenizer = get_tokenizer(str(openai_directory))
    assert isinstance(tokenizer, BytePairTokenizer) and tokenizer.vocabulary == OWN
    expected = ids_of(openai_directory)
    for row, theirs in zip(tokenizer(CAPTIONS), expected, strict=True):
        length = row.tolist().index(49407) + 1
        assert torch.equal(row[:length], theirs[:length])
    assert read_config(openai_directory) == CONFIG


@pytest.mark.parametrize("is_openais", [False, True])
@pytest.mark.parametrize("said_by", ["tokenizer_config.json", "tokenizer.json"])
def test_case_is_kept_where_the_files_say_so(said_by, is_openais, directory, monkeypatch):
    if is_openais:
        monkeypatch.setattr(beside_weights, "SHA256", OWN.sha256)
    if said_by == "tokenizer.json":
        keep_only_tokenizer_json(directory)
        set_in(directory / said_by, normalizer={"type": "NFC"})
    else:
        set_in(directory / said_by, do_lower_case=False)
    upper, lower = OWN.tokens.index("Ox</w>"), OWN.tokens.index("ox</w>")
    tokenizer = get_tokenizer(str(directory))
    assert isinstance(tokenizer, BytePairTokenizer if is_openais else HFTokenizer)
    assert tokenizer("Ox ox")[0, :4].tolist() == [49406, upper, lower, 49407]
    told = get_tokenizer(str(directory), clean="lower")("Ox ox")
    assert told[0, :4].tolist() == [49406, lower, lower, 49407]


@pytest.mark.parametrize("is_openais", [False, True])
def test_text_is_cut_where_the_tokenizer_cuts_it(is_openais, directory, monkeypatch):
    if is_openais:
        monkeypatch.setattr(beside_weights, "SHA256", OWN.sha256)
    set_in(directory / "tokenizer_config.json", model_max_length=5)
    tokens = get_tokenizer(str(directory))("a b c d e f g")
    assert tokens.shape == (1, 5) and tokens[0, -1] == 49407
    assert get_tokenizer(str(directory), context_length=7)("a").shape == (1, 7)
    set_in(directory / "tokenizer_config.json", model_max_length=1000)
    assert get_tokenizer(str(directory))("a").shape == (1, 24)


def test_weights_without_a_tokenizer_ask_for_one(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokenizer: its 49,408 tokens may") as said:
        get_tokenizer(str(weights))
    assert f"SimpleTokenizer(context_length=24).save_pretrained('{weights}')" in str(said.value)
    save_pretrained(build(SMALL["vit"]), tmp_path / "64-tokens", "hf")
    with pytest.raises(FileNotFoundError, match="64-tokens has no tokenizer: copy the files of"):
        get_tokenizer(str(tmp_path / "64-tokens"))
    assert get_tokenizer(str(weights), vocabulary=OWN)("ox")[0, 1] == OWN.tokens.index("ox</w>")


def test_own_vocabulary_is_never_written_as_openais(directory, tmp_path, capsys):
    from tests.support.peers import open_clip

    # OpenAI's may be here: neither a model nor its weights take it for theirs.
    assert create_model(str(directory)).config.text_cfg.hf_tokenizer_name == "own-clip"
    fastclip.save_pretrained(create_model(str(directory)), tmp_path / "saved", "hf")
    assert not (tmp_path / "saved" / "vocab.json").exists()
    assert main(["convert", str(directory), str(tmp_path / "out"), "--to", "open_clip"]) == 0
    expected = ids_of(directory)
    assert torch.equal(get_tokenizer(str(tmp_path / "out"))(CAPTIONS), expected)
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(CAPTIONS), expected)


@pytest.mark.parametrize("layout", ["open_clip", "hf"])
def test_weights_without_a_tokenizer_are_not_converted_with_openais(
    layout, weights, tmp_path, capsys
):
    assert main(["convert", str(weights), str(tmp_path / "out"), "--to", layout]) == 0
    assert not (tmp_path / "out" / "vocab.json").exists()
    assert ("no tokenizer was written" in capsys.readouterr().out) == (layout == "hf")
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        get_tokenizer(str(tmp_path / "out"))


def test_directory_of_open_clips_has_its_own_vocabulary_or_openais(model, directory, tmp_path):
    own = tmp_path / "open_clip"
    save_pretrained(model, own, tokenizer_directory=directory)
    assert torch.equal(get_tokenizer(str(own))(CAPTIONS), ids_of(directory))
    for name in ("vocab.json", "merges.txt"):
        (own / name).unlink()
    # open_clip's configuration says by silence that it is OpenAI's.
    assert get_tokenizer(str(own), vocabulary=OWN).vocabulary == OWN
    pytest.importorskip("open_clip")
    assert get_tokenizer(str(own))("a dog")[0, :4].tolist() == [49406, 320, 1929, 49407]


def test_tokenizer_of_a_repository_is_fetched_with_its_configuration(
    openai_directory, tmp_path, monkeypatch
):
    (tmp_path / "served/a/clip/resolve").mkdir(parents=True)
    (tmp_path / "served/a/clip/resolve/main").symlink_to(openai_directory)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with serve(tmp_path / "served") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        tokenizer = get_tokenizer("hf-hub:a/clip", cache_dir=tmp_path / "cache")
        fetched = fetch_repository("a/clip", tmp_path / "cache", config_only=True)
    assert tokenizer.vocabulary == OWN and tokenizer.context_length == 24
    assert sorted(p.name for p in fetched.iterdir()) == [
        "config.json", "merges.txt", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    assert not any(path.endswith(".safetensors") for path in Handler.requested)
