"""clip-retrieval's own client, its file alone from its wheel, talks to our server."""

import importlib.util
from importlib import metadata

import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.serve.service import open_service
from tests.support.live import live
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model


@pytest.fixture(scope="module")
def client_module():
    """`clip_client.py`: what stands beside it in the wheel needs the world."""
    try:
        package = metadata.distribution("clip-retrieval")
    except metadata.PackageNotFoundError:
        pytest.skip("clip-retrieval is missing: `make test-hosts` installs it")
    found = package.locate_file("clip_retrieval/clip_client.py")
    spec = importlib.util.spec_from_file_location("clip_client_alone", found)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    photos = tmp_path_factory.mktemp("client") / "photos"
    photos.mkdir()
    for i in range(120):
        (photos / f"{i:03d}.png").write_bytes(image_bytes(i))
        (photos / f"{i:03d}.txt").write_text(f"number {(i + 1) % 120}")
    embed(numbered_model(), photos, photos.parent / "numbers", metadata="jsonl")
    found = open_embeddings(photos.parent / "numbers")
    with live(open_service(found, numbered_model())) as address:
        yield address


def test_its_defaults_are_answered(client_module, address, tmp_path):
    client = client_module.ClipClient(f"{address}knn-service", "numbers")
    found = client.query(text="number 5")
    assert len(found) == 40 and found[0]["id"] == 5 and found[0]["caption"] == "number 6"
    assert found[0]["similarity"] == pytest.approx(1) and found[0]["url"] == f"{address}image/5"
    (tmp_path / "mine.png").write_bytes(image_bytes(8))
    assert client.query(image=str(tmp_path / "mine.png"))[0]["id"] == 8
    vector = [float(i == 9) for i in range(128)]
    assert client.query(embedding_input=vector)[0]["id"] == 9


def test_its_settings_are_obeyed_or_refused(client_module, address):
    kinds = client_module.Modality
    client = client_module.ClipClient(
        f"{address}knn-service", "numbers", modality=kinds.TEXT, num_images=3, deduplicate=False,
        use_safety_model=False, use_violence_detector=False,
    )  # fmt: skip
    found = client.query(text="number 5")
    assert len(found) == 3 and found[0]["id"] == 4
    refused = client.query(image="http://example.com/cat.jpg")
    assert "image_url is not supported" in refused["message"]
    other = client_module.ClipClient(f"{address}knn-service", "laion5B")
    assert "there is no index 'laion5B'" in other.query(text="cat")["message"]
    tongues = client_module.ClipClient(f"{address}knn-service", "numbers", use_mclip=True)
    assert "use_mclip" in tongues.query(text="cat")["message"]
