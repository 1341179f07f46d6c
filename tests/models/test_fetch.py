"""Fetching published weights, from a server that this test starts."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from fastclip import hub as published_files
from fastclip.models import fetch
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import create_model, create_model_and_transforms
from fastclip.models.pretrained import list_pretrained
from fastclip.models.published import OPENAI_FILES, REPOSITORIES
from fastclip.models.registry import architectures, get_model_config
from tests.support.server import Handler, serve
from tests.support.small_models import SMALL, build


@pytest.fixture
def server(tmp_path):
    """The root of what is served, and the address."""
    root = tmp_path / "served"
    root.mkdir()
    with serve(root) as address:
        yield root, address


@pytest.fixture
def hub(server, monkeypatch):
    """A hub with one repository, read without its library."""
    root, address = server
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = build(SMALL["vit"])
    (root / "laion" / "small" / "resolve").mkdir(parents=True)
    save_pretrained(model, root / "laion" / "small" / "resolve" / "main")
    return root, model


def test_repository_is_fetched_once(hub, tmp_path):
    _, model = hub
    for _ in range(2):
        read = create_model("hf-hub:laion/small", cache_dir=tmp_path / "cache")
    assert read.config == model.config
    assert torch.equal(read.visual.proj, model.visual.proj)
    assert len([p for p in Handler.requested if p.endswith(".safetensors")]) == 1


def test_repository_of_transformers_is_fetched_with_its_preprocessing(hub, tmp_path):
    root, _ = hub
    (root / "openai" / "small" / "resolve").mkdir(parents=True)
    save_pretrained(build(SMALL["quick_gelu"]), root / "openai/small/resolve/main", layout="hf")
    read = create_model("hf-hub:openai/small", cache_dir=tmp_path / "cache")
    assert read.config == SMALL["quick_gelu"]
    assert (tmp_path / "cache/openai/small/preprocessor_config.json").is_file()


def test_preprocessing_is_fetched_from_where_transformers_5_writes_it(hub, tmp_path, monkeypatch):
    root, _ = hub
    main, cache = root / "openai/small/resolve/main", tmp_path / "cache"
    main.parent.mkdir(parents=True)
    save_pretrained(build(SMALL["quick_gelu"]), main, layout="hf")
    values = json.loads((main / "preprocessor_config.json").read_text()) | {"resample": 2}
    (main / "preprocessor_config.json").unlink()
    (main / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    for offline in "01":
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        *_, preprocess = create_model_and_transforms("hf-hub:openai/small", cache_dir=cache)
        assert preprocess.cfg.interpolation == "bilinear"
    (cache / "openai/small/processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        create_model("hf-hub:openai/small", cache_dir=cache)


def test_tag_is_its_repository(hub, tmp_path, monkeypatch):
    _, model = hub
    monkeypatch.setitem(REPOSITORIES, "Small", {"laion2b": "laion/small"})
    monkeypatch.setitem(architectures, "Small", model.config)
    read, _, preprocess = create_model_and_transforms(
        "Small", pretrained="laion2b", cache_dir=tmp_path / "cache"
    )
    assert torch.equal(read.ln_final.weight, model.ln_final.weight)
    assert preprocess.cfg.height_width == (32, 32)


def test_configuration_is_fetched_without_the_weights(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(published_files, "CACHE", str(tmp_path / "cache"))
    assert get_model_config("hf-hub:laion/small") == SMALL["vit"]
    assert not any(path.endswith(".safetensors") for path in Handler.requested)


def test_unknown_repository_and_no_connection_say_how_to_do_without(hub, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="laion/none on the Hugging Face Hub has none of"):
        create_model("hf-hub:laion/none", cache_dir=tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"could not be fetched.*local-dir:"):
        create_model("hf-hub:laion/other", cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_repository_is_never_a_path(hub, tmp_path):
    for name in ("../../elsewhere/x", "/etc/x", "a/b/c", "a/..", ""):
        with pytest.raises(ValueError, match="repository must be 'organisation/name'"):
            create_model(f"hf-hub:{name}", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "elsewhere").exists() and Handler.requested == []


def test_nothing_is_asked_for_where_that_is_forbidden(hub, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    create_model("hf-hub:laion/small", cache_dir=cache)
    Handler.requested.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert create_model("hf-hub:laion/small", cache_dir=cache).config == SMALL["vit"]
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        create_model("hf-hub:laion/other", cache_dir=cache)
    assert Handler.requested == []


def test_home_of_the_hub_is_where_files_go(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert create_model("hf-hub:laion/small").config == SMALL["vit"]
    assert (tmp_path / "home/fastclip/laion/small/open_clip_model.safetensors").is_file()


def test_file_that_is_cut_off_is_an_error_and_not_kept(hub, tmp_path):
    Handler.cut_off = {"open_clip_model.safetensors"}
    with pytest.raises(CheckpointError, match=r"cut off after [\d,]+ of [\d,]+ bytes"):
        create_model("hf-hub:laion/small", cache_dir=tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache/laion/small").iterdir()] == ["open_clip_config.json"]
    Handler.cut_off = set()
    assert create_model("hf-hub:laion/small", cache_dir=tmp_path / "cache").config == SMALL["vit"]


def test_library_of_the_hub_is_used_where_it_is_installed(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("huggingface_hub.errors")  # not imported with it
    model = build(SMALL["vit"])
    save_pretrained(model, tmp_path / "repository")
    asked = []

    class Missing(hub.errors.EntryNotFoundError):
        def __init__(self, name):
            Exception.__init__(self, name)

    def download(repository, name, cache_dir=None):
        asked.append((repository, name))
        path = tmp_path / "repository" / name
        if not path.is_file():
            raise Missing(name)
        return str(path)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert create_model("hf-hub:a/b").config == model.config
    assert ("a/b", "open_clip_model.safetensors") in asked
    (tmp_path / "repository" / "open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match="a/b on the Hugging Face Hub has none"):
        create_model("hf-hub:a/b")


def test_openais_file_is_fetched_and_its_checksum_is_checked(server, tmp_path, monkeypatch):
    root, address = server
    monkeypatch.setattr(fetch, "OPENAI", address)
    content = b"weights"
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(OPENAI_FILES, "ViT-B/32", (checksum, "ViT-B-32.pt"))
    (root / checksum).mkdir()
    (root / checksum / "ViT-B-32.pt").write_bytes(content)
    path = fetch.fetch_openai("ViT-B/32", tmp_path / "root")
    assert path.read_bytes() == content
    path.unlink()
    path.write_bytes(b"tampered where it lay")
    assert fetch.fetch_openai("ViT-B/32", tmp_path / "root").read_bytes() == content
    path.unlink()
    (root / checksum / "ViT-B-32.pt").write_bytes(b"tampered")
    with pytest.raises(CheckpointError, match=r"could not be fetched.*Put the file at"):
        fetch.fetch_openai("ViT-B/32", tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())


def test_published_weights_are_open_clips():
    from fastclip.models.presets import PRESETS
    from tests.support.peers import open_clip

    theirs = {
        (name, tag): cfg["hf_hub"].rstrip("/")
        for name, tags in open_clip.pretrained._PRETRAINED.items()
        for tag, cfg in tags.items()
        if name in PRESETS
    }
    ours = {(name, tag): REPOSITORIES[name][tag] for name, tag in list_pretrained()}
    others = {
        key: place
        for key, place in ours.items()
        if key[0].startswith("TIPS") or key[0].endswith("-naflex")
    }
    assert ours == theirs | others and len(others) == 4 + 2 and not set(others) & set(theirs)


def test_openais_names_are_checked_against_the_addresses_that_open_clip_has():
    from tests.support.peers import open_clip

    theirs = {
        cfg["url"].rsplit("/", 1)[1]: cfg["url"].rsplit("/", 2)[1]
        for tags in open_clip.pretrained._PRETRAINED.values()
        for tag, cfg in tags.items()
        if tag == "openai"
    }
    assert {file: checksum for checksum, file in OPENAI_FILES.values()} == theirs


def test_library_that_may_not_ask_says_so(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")

    def download(*args, **settings):
        raise errors.LocalEntryNotFoundError("cannot find the requested files")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match="cannot find the requested files"):
        create_model("hf-hub:a/b")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set, and open_clip_config"):
        create_model("hf-hub:a/b")


def test_what_others_left_in_the_cache_of_the_hub_is_enough_without_a_connection(
    tmp_path, monkeypatch
):
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots/0123"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0123")
    save_pretrained(build(SMALL["quick_gelu"]), snapshot, layout="hf")

    def download(repository, name, cache_dir=None):
        found = hub.try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        if not isinstance(found, str):
            raise errors.LocalEntryNotFoundError("cannot find the requested files")
        return found

    monkeypatch.setattr(hub, "hf_hub_download", download)
    # What CLIPModel.from_pretrained() fetches: it never asked whether there are other files.
    assert create_model("hf-hub:a/b", cache_dir=tmp_path).config == SMALL["quick_gelu"]
    (snapshot / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"processor_config\.json of a/b could not be"):
        create_model("hf-hub:a/b", cache_dir=tmp_path)


def test_weights_are_brought_by_what_is_known_of_them(hub, tmp_path):
    cfg = {"hf_hub": "laion/small/", "url": ""}
    path = fetch.download_pretrained(cfg, cache_dir=tmp_path / "cache")
    assert path.endswith("open_clip_model.safetensors")
    named = {"hf_hub": "laion/small/open_clip_config.json"}
    assert fetch.download_pretrained(named, cache_dir=tmp_path / "cache").endswith("config.json")
    assert fetch.download_pretrained({}) == ""
    hub_file = fetch.download_pretrained_from_hf("laion/small", cache_dir=tmp_path / "cache")
    assert hub_file == path
    with pytest.raises(ValueError, match="revision='v1' is not supported"):
        fetch.download_pretrained_from_hf("laion/small", revision="v1")


def test_addresses_with_a_checksum_are_checked_by_it(server, tmp_path):
    root, address = server
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    for folder in (f"openaipublic/{digest}", "mlfoundations"):
        (root / folder).mkdir(parents=True)
    (root / "openaipublic" / digest / "RN50.pt").write_bytes(content)
    (root / "mlfoundations" / f"rn50-{digest[:8]}.pt").write_bytes(content)
    (root / "mlfoundations" / "rn50-00000000.pt").write_bytes(content)
    (root / "other.pt").write_bytes(content)
    for name in (
        f"openaipublic/{digest}/RN50.pt",
        f"mlfoundations/rn50-{digest[:8]}.pt",
        "other.pt",
    ):
        for prefer_hub in (False, True):
            cfg = {"url": f"{address}/{name}", "hf_hub": ""}
            path = fetch.download_pretrained(cfg, prefer_hub, tmp_path / "cache")
            assert Path(path).read_bytes() == content
    kept = tmp_path / "cache" / f"rn50-{digest[:8]}.pt"
    kept.write_bytes(b"tampered")
    url = f"{address}/mlfoundations/{kept.name}"
    assert Path(fetch.download_pretrained_from_url(url, kept.parent)).read_bytes() == content
    with pytest.raises(CheckpointError, match=r"rn50-00000000\.pt could not be fetched: .*SHA-256"):
        fetch.download_pretrained_from_url(
            f"{address}/mlfoundations/rn50-00000000.pt", tmp_path / "cache"
        )
    assert not (tmp_path / "cache" / "rn50-00000000.pt").exists()


def test_another_file_in_the_cache_is_named_where_none_can_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "OPENAI", "http://127.0.0.1:9")
    (tmp_path / "ViT-B-32.pt").write_bytes(b"tampered")
    with pytest.raises(CheckpointError, match=r"ViT-B-32\.pt is not the published one"):
        fetch.fetch_openai("ViT-B/32", tmp_path)


@pytest.mark.parametrize("library", [True, False])
def test_a_file_of_a_repository_lies_in_it(library, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: library or None)
    for name in ("../x.pt", "a/../../x.pt", "/etc/x.pt", "", "a\\..\\x"):
        for ask in (published_files.hub_file, published_files.cached_hub_file):
            with pytest.raises(ValueError, match="must be a path within"):
                ask("laion/small", name, tmp_path / "cache")
    assert Handler.requested == []
    with pytest.raises(CheckpointError, match="does not end in the name of a file"):
        fetch.download_pretrained_from_url("https://x/..", tmp_path)


def test_an_address_without_encryption_is_said(tmp_path, monkeypatch):
    def unreachable(request, timeout):
        raise ConnectionError("no connection")

    monkeypatch.setattr(published_files, "urlopen", unreachable)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    with pytest.warns(UserWarning, match=r"http://mirror\.example/.* without encryption"):
        with pytest.raises(CheckpointError):
            create_model("hf-hub:a/b", cache_dir=tmp_path)
    for endpoint in ("https://mirror.example", "http://localhost:1"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(CheckpointError):  # and no warning, which would be an error
            create_model("hf-hub:a/b", cache_dir=tmp_path)
