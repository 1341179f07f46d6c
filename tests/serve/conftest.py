import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.serve.app import make_app
from fastclip.serve.guard import names_of
from fastclip.serve.service import open_service
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model

NUM = 120


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    """Embeddings of images 0 to 119, with captions of the next number; the last is a copy of 5."""
    photos = tmp_path_factory.mktemp("serve") / "photos"
    photos.mkdir()
    for i in range(NUM):
        (photos / f"{i:03d}.png").write_bytes(image_bytes(i))
        (photos / f"{i:03d}.txt").write_text(f"number {(i + 1) % NUM}")
    (photos / "copy.png").write_bytes(image_bytes(5))
    (photos / "copy.txt").write_text("<script>alert(1)</script> 6")
    embed(numbered_model(), photos, photos.parent / "index", metadata="jsonl")
    return photos.parent / "index"


@pytest.fixture(scope="session")
def service(served_folder):
    service = open_service(open_embeddings(served_folder), numbered_model())
    yield service
    service.close()


@pytest.fixture(scope="session")
def app(service):
    return make_app(service, names_of("127.0.0.1"))
