"""Where OpenAI's vocabulary is found, and how it is fetched: from a server that this test starts.

The vocabulary is a small one whose digest takes the place of OpenAI's, so that none is needed here.
"""

import gzip
import importlib.util
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastclip.data.installed_files import installed_file
from fastclip.data.tokenizers import openai_vocabulary
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.data.tokenizers.openai_vocabulary import (
    OPENAI_FILE,
    REPOSITORY,
    Located,
    find_vocabulary,
    locate_openai_vocabulary,
)
from tests.support.merges import random_vocabulary
from tests.support.server import Handler, serve

SMALL = random_vocabulary(num_merges=20)
OTHER = random_vocabulary(num_merges=20, seed=1)
# As OpenAI's file: another first line, and more lines than are used.
LONG = gzip.compress(f'"{OPENAI_FILE}{SMALL.to_text()}a b\nmore lines\n'.encode(), mtime=0)
PUBLISHED = f"{REPOSITORY}/resolve/main/merges.txt"


@pytest.fixture(autouse=True)
def fresh_install(tmp_path, monkeypatch):
    """Nothing is installed but what fastclip needs, and no cache has anything."""
    monkeypatch.setattr(openai_vocabulary, "CLIP_MERGES", 20)
    monkeypatch.setattr(openai_vocabulary, "SHA256", SMALL.sha256)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(openai_vocabulary, "installed_file", lambda *names: None)
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    openai_vocabulary._openai_vocabulary.cache_clear()
    yield
    openai_vocabulary._openai_vocabulary.cache_clear()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The file that the Hub serves."""
    path = tmp_path / "served" / PUBLISHED
    path.parent.mkdir(parents=True)
    path.write_text(SMALL.to_text())
    with serve(tmp_path / "served") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield path


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def everything(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_digest_is_of_the_file_that_comes_with_open_clip(monkeypatch):
    monkeypatch.undo()
    openai_vocabulary._openai_vocabulary.cache_clear()
    path = installed_file("open_clip", OPENAI_FILE)
    if path is None:
        pytest.skip("open_clip_torch is not installed")
    assert find_vocabulary(path).sha256 == openai_vocabulary.SHA256
    assert len(find_vocabulary(path).to_text().encode()) == 524_619  # the Hub's file has as many
    assert locate_openai_vocabulary() == Located(path, "comes with open_clip_torch")


def test_vocabulary_is_fetched_once_and_kept(hub, tmp_path):
    assert locate_openai_vocabulary() is None
    assert find_vocabulary() == SMALL
    assert Handler.requested == [f"/{PUBLISHED}"]
    kept = tmp_path / f"home/.cache/fastclip/{REPOSITORY}/merges.txt"
    assert everything(tmp_path / "home") == [str(kept.relative_to(tmp_path / "home"))]
    openai_vocabulary._openai_vocabulary.cache_clear()  # as in another process
    assert find_vocabulary() == SMALL and len(Handler.requested) == 1
    assert locate_openai_vocabulary() == Located(kept, "fetched earlier")


def test_tokenizer_without_arguments_fetches_it(hub):
    assert BytePairTokenizer().vocabulary == SMALL and len(Handler.requested) == 1


@pytest.mark.parametrize("place", ["argument", "HF_HOME"])
def test_it_is_kept_where_the_user_says(place, hub, tmp_path, monkeypatch):
    cache_dir = None
    if place == "HF_HOME":
        monkeypatch.setenv("HF_HOME", str(tmp_path / "there"))
    else:
        cache_dir = tmp_path / "there" / "fastclip"
    assert find_vocabulary(cache_dir=cache_dir) == SMALL
    assert everything(tmp_path / "there") == [f"fastclip/{REPOSITORY}/merges.txt"]
    assert not (tmp_path / "home").exists()


def _wrong(path):
    path.write_text(OTHER.to_text())


def _shorter(path):
    path.write_text("\n".join(SMALL.to_text().split("\n")[:12]))


def _page(path):
    path.write_text("<html>log in first</html>")


def _cut_off(path):
    Handler.cut_off = {path.name}


@pytest.mark.parametrize(
    "happens, message",
    [
        (
            _wrong,
            r"what was published: the SHA-256 of its merges is [0-9a-f]{64}, but OpenAI's",
        ),
        (_shorter, "is not what was published: .* must hold 20 merges, got 11"),
        (_page, "is not what was published: .* first line must hold '#version', got '<html>"),
        (_cut_off, r"merges\.txt was cut off after \d+ of \d+ bytes"),
        (os.remove, r"there is no such file \(HTTP status 404\)"),
    ],
)
def test_what_is_not_the_vocabulary_is_an_error_and_not_kept(happens, message, hub, tmp_path):
    happens(hub)
    with pytest.raises(FileNotFoundError, match=message) as caught:
        find_vocabulary()
    assert os.environ["HF_ENDPOINT"] in str(caught.value)
    assert everything(tmp_path / "home") == []
    put(hub, SMALL.to_text())
    Handler.cut_off = set()
    assert find_vocabulary() == SMALL  # a failure is not remembered


@pytest.mark.parametrize("is_forbidden", [False, True])
def test_without_a_connection_the_error_names_every_way(is_forbidden, tmp_path, monkeypatch):
    if is_forbidden:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="not on this machine") as caught:
        find_vocabulary()
    said = str(caught.value)
    assert ("HF_HUB_OFFLINE is set" in said) == is_forbidden
    for way in (
        "pip install open_clip_torch", f"{tmp_path}/home/.cache/fastclip", "merges.txt",
        OPENAI_FILE, "vocabulary=", "HF_HOME", "HF_ENDPOINT",
    ):  # fmt: skip
        assert way in said


def test_nothing_at_the_path_that_was_given_is_not_made_up_for(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no vocabulary at .*missing.*pip install open_c"):
        find_vocabulary(tmp_path / "missing")
    assert Handler.requested == []


@pytest.mark.parametrize(
    "place, content, origin",
    [
        (f"home/.cache/fastclip/{OPENAI_FILE}", LONG, "copied there"),
        ("home/.cache/fastclip/merges.txt", SMALL.to_text(), "copied there"),
        (
            "home/.cache/huggingface/hub/models--a--clip/snapshots/0a1b/merges.txt",
            SMALL.to_text(),
            "in the Hub's cache",
        ),
    ],
)
def test_copy_on_this_machine_is_taken_and_nothing_is_asked_for(
    place, content, origin, hub, tmp_path
):
    path = put(tmp_path / place, content)
    assert locate_openai_vocabulary() == Located(path, origin)
    assert find_vocabulary() == SMALL and Handler.requested == []


@pytest.mark.parametrize("variable, below", [("HF_HOME", "hub"), ("HF_HUB_CACHE", "")])
def test_cache_of_the_hub_is_where_its_variables_say(variable, below, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    place = tmp_path / "there" / below / "models--openai--clip/snapshots/0a1b"
    assert locate_openai_vocabulary() is None
    put(place / "merges.txt", SMALL.to_text())
    assert locate_openai_vocabulary().path == place / "merges.txt"


def test_vocabularies_of_others_in_a_cache_are_left_alone(hub, tmp_path):
    snapshots = tmp_path / "home/.cache/huggingface/hub/models--a--b/snapshots"
    put(snapshots / "0a/merges.txt", OTHER.to_text())
    put(snapshots / "0b/merges.txt", "#version: 0.2\nĠ t\n")
    assert locate_openai_vocabulary() is None
    assert find_vocabulary() == SMALL and len(Handler.requested) == 1


def test_copy_that_is_damaged_is_fetched_again_or_said(hub, tmp_path, monkeypatch):
    copied = put(tmp_path / "home/.cache/fastclip/merges.txt", OTHER.to_text())
    fetched = put(
        tmp_path / f"home/.cache/fastclip/{REPOSITORY}/merges.txt", "#version: 0.2\na b\n"
    )
    address = os.environ["HF_ENDPOINT"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError) as caught:
        find_vocabulary()
    assert f"{copied} was not used: the SHA-256" in str(caught.value)
    assert f"{fetched} was not used: " in str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert find_vocabulary() == SMALL and fetched.read_text() == SMALL.to_text()


@pytest.mark.parametrize("package, distribution", openai_vocabulary.PACKAGES.items())
def test_installed_package_comes_before_every_cache(
    package, distribution, hub, tmp_path, monkeypatch
):
    put(tmp_path / "home/.cache/fastclip/merges.txt", SMALL.to_text())
    path = put(tmp_path / "site" / package / OPENAI_FILE, LONG)
    installed = {(package, OPENAI_FILE): path}
    monkeypatch.setattr(openai_vocabulary, "installed_file", lambda *names: installed.get(names))
    assert locate_openai_vocabulary() == Located(path, f"comes with {distribution}")
    assert find_vocabulary() == SMALL and Handler.requested == []
    openai_vocabulary._openai_vocabulary.cache_clear()
    path.write_bytes(LONG[:-20])
    assert locate_openai_vocabulary().origin == "copied there"


def test_ranks_that_fetch_at_the_same_time_all_get_it(hub, tmp_path):
    barrier = threading.Barrier(8)

    def rank(_):
        barrier.wait()
        return openai_vocabulary._fetch(None).read_text()

    with ThreadPoolExecutor(8) as ranks:
        assert set(ranks.map(rank, range(8))) == {SMALL.to_text()}
    assert everything(tmp_path / "home") == [f".cache/fastclip/{REPOSITORY}/merges.txt"]


def test_library_of_the_hub_is_used_where_it_is_installed(tmp_path, monkeypatch):
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    asked = []

    def download(repository, name, cache_dir=None, force_download=False):
        asked.append((repository, name, cache_dir, force_download))
        content = SMALL if force_download else OTHER  # what is in its cache is damaged
        return str(put(tmp_path / "library" / name, content.to_text()))

    monkeypatch.setattr(library, "hf_hub_download", download)
    assert find_vocabulary(cache_dir="there") == SMALL
    assert asked == [(REPOSITORY, "merges.txt", "there", force) for force in (False, True)]
