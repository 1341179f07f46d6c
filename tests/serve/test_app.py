"""What holds for all endpoints: limits, strangers, headers, images by number, counts."""

import asyncio
import io
import json
import os
from urllib.parse import unquote

import pytest
from PIL import Image

from fastclip.embeddings import embed, open_embeddings
from fastclip.serve.app import make_app
from fastclip.serve.guard import is_loopback, names_of
from fastclip.serve.limits import Limits
from fastclip.serve.metrics import Metrics
from fastclip.serve.service import Service, open_service
from tests.support.asgi import ask, get, post, together
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model


@pytest.fixture
def limited(service):
    """Makes applications of the same folder with other limits."""
    services = []

    def make(**limits):
        services.append(Service("index", service.searchers, Limits(**limits)))
        return make_app(services[-1], names_of("127.0.0.1")), services[-1]

    yield make
    for one in services:
        one.close()


def test_images_come_by_number_as_jpegs_of_a_bounded_size(app):
    answer = get(app, "/image/5")
    assert answer.status == 200 and answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.body))
    assert image.format == "JPEG" and image.size == (8, 8)
    mark = answer.headers["etag"]
    again = get(app, "/image/5", if_none_match=mark)
    assert again.status == 304 and again.body == b"" and again.headers["etag"] == mark
    assert get(app, "/image/6", if_none_match=mark).status == 200


@pytest.mark.parametrize(
    "address",
    [
        "/image/..%2f..%2fetc%2fpasswd", "/image/../photos/005.png", "/image/005.png", "/image/-1",
        "/image/121", "/image/1e1", "/image/٣", "/image/" + "9" * 30, "/image/", "/image",
        "/image/5/", "/image/5%00", "/page.py", "/../app.py", "/static/app.py", "//etc/passwd",
    ],
)  # fmt: skip
def test_nothing_but_the_number_of_a_row_leads_to_a_file(app, address):
    for path in {address, unquote(address)}:
        answer = get(app, path)
        assert answer.status == 404 and b"root:" not in answer.body
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_files_that_are_no_images_are_never_passed_on(served_folder, app, limited):
    photos = served_folder.parent / "photos"
    photo = photos / "030.png"
    before = photo.read_bytes()
    try:
        for content in (b"<svg onload='alert(1)'/>", b"<html><script>alert(1)</script>", b""):
            photo.write_bytes(content)
            answer = get(app, "/image/30")
            assert answer.status == 404 and b"is not an image" in answer.body
            assert str(photos) not in answer.body.decode()
        photo.unlink()
        assert b"cannot be read" in get(app, "/image/30").body
        os.mkfifo(photo)
        assert b"cannot be read" in get(app, "/image/30").body
        photo.unlink()
        Image.new("RGB", (3000, 20), "red").save(photo, "PNG")
        sizes = [Image.open(io.BytesIO(get(app, f"/image/30{q}").body)).size
                 for q in ("", "?size=large")]  # fmt: skip
        assert sizes == [(384, 3), (1280, 9)]
        assert get(app, "/image/30?size=huge").status == 400
        assert get(app, "/image/30?path=/etc/passwd").status == 400
        small, _ = limited(image_bytes=10)
        assert b"more than 10 bytes" in get(small, "/image/30").body
    finally:
        photo.unlink(missing_ok=True)
        photo.write_bytes(before)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:1234"}, 200),
        ({"host": "LOCALHOST:99"}, 200),
        ({"host": "evil.example:1234"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "127.0.0.1:1234@evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://127.0.0.1:1234"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_pages_and_names_from_elsewhere_are_refused(app, headers, status):
    answer = get(app, "/health", **headers)
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_server_for_other_machines_answers_to_any_name(service):
    assert names_of("0.0.0.0") is None and names_of("192.168.1.5") is None
    assert names_of("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("::") and not is_loopback("localhost.example")
    open_to_all = make_app(service, names_of("0.0.0.0"))
    assert get(open_to_all, "/health", host="search.example").status == 200
    own = {"host": "search.example:80", "origin": "http://search.example:80"}
    assert get(open_to_all, "/health", **own).status == 200
    for origin in ("http://evil.example", "null", "http://search.example:81"):
        answer = get(open_to_all, "/health", host="search.example:80", origin=origin)
        assert answer.status == 403 and "may not ask this server" in answer.json["message"]


def test_health_says_what_is_served(app):
    assert get(app, "/health").json == {
        "status": "ok", "name": "index", "model": "numbers", "most_results": 3000,
        "sides": {
            "images": {"vectors": 121, "dim": 128}, "texts": {"vectors": 121, "dim": 128}
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "is not JSON"),
        (b"", 400, "is not JSON"),
        (b"\xff\xfe", 400, "is not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"[" * 100_000, 400, "nested deeper than 32 levels"),
        (b'{"q": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "nested deeper than 32 levels"),
        (b'{"q": "' + b"x" * 2000 + b'"}', 413, "may have at most 1,000 bytes"),
    ],
)
def test_bodies_have_limits_of_size_and_depth(limited, body, status, message):
    app, _ = limited(body_bytes=1000 if status == 413 else 2**20)
    for address in ("/search", "/knn-service", "/metadata", "/v1/embeddings"):
        answer = post(app, address, body)
        found = answer.json
        told = found["error"] if address.startswith("/v1") else found
        assert answer.status == status and message in told["message"]
    if status == 413:
        declared = post(app, "/search", b"{}", content_length="1001")
        assert declared.status == 413
        pieces = [b"x" * 600, b"x" * 600]
        assert asyncio.run(ask(app, "POST", "/search", pieces=pieces)).status == 413


def test_a_body_that_never_ends_is_given_up(limited):
    app, _ = limited(seconds=0.05)
    answer = asyncio.run(ask(app, "POST", "/search", pieces=[b"{", b""]))
    assert answer.status == 408 and "was not complete after 0.05 s" in answer.json["message"]


def test_who_comes_when_too_many_wait_is_asked_to_come_again(limited):
    app, _ = limited(waiting=1, gather_seconds=0.1, batch=1)
    asked = [ask(app, "POST", "/search", {"q": f"number {n}", "top": 1}) for n in range(30)]
    answers = together(*asked)
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 503}
    refused = next(answer for answer in answers if answer.status == 503)
    assert (
        refused.headers["retry-after"] == "1" and "are waiting already" in refused.json["message"]
    )


def test_questions_within_5_ms_are_one_batch_and_all_is_counted(limited):
    app, _ = limited(gather_seconds=0.2)
    answers = together(
        *(ask(app, "POST", "/search", {"q": f"number {n}", "top": 1}) for n in range(8)),
        ask(app, "POST", "/knn-service", {"text": "number 9"}),
        ask(app, "POST", "/v1/embeddings", {"input": "number 9", "model": "index"}),
    )
    assert [a.json["results"][0]["id"] for a in answers[:8]] == list(range(8))
    get(app, "/image/3")
    get(app, "/elsewhere/<script>")
    text = get(app, "/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = text.body.decode().splitlines()
    assert 'fastclip_requests_total{endpoint="/search",status="200"} 8' in lines
    assert 'fastclip_requests_total{endpoint="/image",status="200"} 1' in lines
    assert 'fastclip_requests_total{endpoint="other",status="404"} 1' in lines
    assert 'fastclip_request_seconds_bucket{endpoint="/search",le="+Inf"} 8' in lines
    assert (
        "fastclip_batch_questions_count 1" in lines and "fastclip_batch_questions_sum 10" in lines
    )
    assert "fastclip_waiting_questions 0" in lines


def test_requests_for_many_texts_are_answered_apart_and_a_search_with_the_first(limited):
    app, _ = limited(gather_seconds=0.2, batch_texts=256)
    many = {"input": ["number 1"] * 300, "model": "index"}
    answers = together(
        *(ask(app, "POST", "/v1/embeddings", many) for _ in range(3)),
        ask(app, "POST", "/search", {"q": "number 3"}),
    )
    assert [answer.status for answer in answers] == [200] * 4
    lines = get(app, "/metrics").body.decode().splitlines()
    assert 'fastclip_batch_questions_bucket{le="1"} 2' in lines
    assert "fastclip_batch_questions_sum 4" in lines


def test_histograms_count_what_is_at_most_each_bound():
    metrics = Metrics()
    for seconds in (0.005, 0.006, 99.0):
        metrics.answered("/search", 200, seconds)
    lines = metrics.text(2).splitlines()
    head = 'fastclip_request_seconds_bucket{endpoint="/search",le='
    assert [f'{head}"{bound}"}} {n}' in lines for bound, n in
            (("0.005", 1), ("0.01", 2), ("30.0", 2), ("+Inf", 3))] == [True] * 4  # fmt: skip
    assert "fastclip_waiting_questions 2" in lines and lines[0].startswith("# HELP")


def test_faults_of_the_server_are_told_as_such_and_tell_nothing(limited, monkeypatch):
    app, service = limited()

    def fail(*args, **options):
        raise RuntimeError("a secret path")

    for searcher in service.searchers.values():
        monkeypatch.setattr(type(searcher), "answers_of", fail)
    answer = post(app, "/search", {"q": "number 1"})
    assert answer.status == 500 and answer.json == {"message": "the server failed; see its log"}
    assert "content-security-policy" in answer.headers


def test_surrogates_that_stand_alone_are_told_as_their_escapes(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(image_bytes(1))
    embed(numbered_model(), tmp_path / "photos", tmp_path / "index", metadata="jsonl")
    file = next((tmp_path / "index").rglob("metadata_*.jsonl"))
    row = json.loads(file.read_text()) | {"caption": "\ud800 bad", "\udfff": {"\ud801": ["\ud802"]}}
    file.write_text(json.dumps(row) + "\n")
    service = open_service(
        open_embeddings(tmp_path / "index"), numbered_model(), name="in\udcffdex"
    )
    app = make_app(service)
    assert get(app, "/health").json["name"] == "in\\udcffdex"
    found = post(app, "/search", {"q": "\ud803 1"}).json
    assert found["parts"][0]["value"] == "\\ud803 1"
    knn = post(app, "/knn-service", {"text": "number 1"}).json
    known = post(app, "/metadata", {"ids": [0]}).json[0]["metadata"]
    for told in (found["results"][0], knn[0], known):
        assert told["caption"] == "\\ud800 bad" and told["\\udfff"] == {"\\ud801": ["\\ud802"]}
    for address, known_part in (("/search", {"q": "number 1"}), ("/knn-service", {"text": "1"})):
        refused = post(app, address, known_part | {"\ud800": 1})
        assert refused.status == 400 and "\\ud800" in refused.json["message"]
    service.close()


def test_other_methods_and_paths_have_json_too(app):
    assert get(app, "/search").status == 405
    assert get(app, "/v1/models").json["error"]["message"] == "Not Found"
    assert post(app, "/nowhere", {}).json == {"message": "Not Found"}
