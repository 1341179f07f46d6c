"""`fastclip serve`: where it listens, what it says, how it ends, and what it refuses."""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from dataclasses import replace

import pytest

from fastclip.cli import main
from fastclip.commands import searched
from fastclip.embeddings import embed
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model


@pytest.fixture(autouse=True)
def opened_models(monkeypatch):
    names = []

    def open_model(name, pretrained, **options):
        names.append(name)
        return numbered_model(name)

    monkeypatch.setattr(searched, "open_model", open_model)
    return names


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    photos = tmp_path_factory.mktemp("served") / "photos"
    photos.mkdir()
    for i in range(3):
        (photos / f"{i}.png").write_bytes(image_bytes(i))
    embed(numbered_model("numbers"), photos, photos.parent / "out", metadata="jsonl")
    return photos.parent / "out"


class Visitor(threading.Thread):
    """Waits for the server to say where it is, asks it something, and then sends a signal."""

    def __init__(self, capsys, ask, number):
        super().__init__()
        self._capsys, self._ask, self._number = capsys, ask, number
        self.said, self.warned, self.found = "", "", None

    def run(self):
        deadline = time.monotonic() + 20
        while "http://" not in self.said and time.monotonic() < deadline:
            told = self._capsys.readouterr()
            self.said, self.warned = self.said + told.out, self.warned + told.err
            time.sleep(0.01)
        try:
            self.found = self._ask("http://" + self.said.split("http://")[1].strip())
        finally:
            os.kill(os.getpid(), self._number)


def serve(*args):
    return main(["serve", *map(str, args)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_is_asked_and_ends_on_a_signal(out, capsys, number, opened_models):
    def ask(address):
        body = json.dumps({"text": "number 1", "num_images": 1}).encode()
        request = urllib.request.Request(f"{address}knn-service", body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.loads(answer.read())
            assert answer.headers["server"] is None
        with urllib.request.urlopen(found[0]["url"], timeout=10) as answer:
            return found[0]["id"], answer.headers["content-type"]

    threads = threading.active_count()
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    visitor = Visitor(capsys, ask, number)
    visitor.start()
    assert serve(out, "--port", 0, "--name", "digits") == 0
    visitor.join()
    assert visitor.found == (1, "image/jpeg") and opened_models == ["numbers"]
    assert visitor.said.startswith("digits: 3 images at http://127.0.0.1:")
    assert capsys.readouterr().out == "stopped\n"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert threading.active_count() == threads


def test_what_was_asked_before_the_signal_is_answered(out, capsys, monkeypatch):
    begun = threading.Event()
    encode = numbered_model().tokenizer

    def slow_for_2(texts):
        if texts == ["number 2"]:
            begun.set()
            time.sleep(0.4)
        return encode(texts)

    def open_model(name, pretrained, **options):
        return replace(numbered_model(name), tokenizer=slow_for_2)

    answers = []

    def ask(address):
        def wait_for_it():
            body = json.dumps({"q": "number 2", "top": 1}).encode()
            with urllib.request.urlopen(f"{address}search", body, timeout=10) as answer:
                answers.append(json.loads(answer.read())["results"][0]["id"])

        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        begun.wait(10)
        return waiting

    monkeypatch.setattr(searched, "open_model", open_model)
    visitor = Visitor(capsys, ask, signal.SIGTERM)
    visitor.start()
    assert serve(out, "--port", 0) == 0
    visitor.join()
    visitor.found.join()
    assert answers == [2]


def test_a_port_in_use_is_said_before_a_model_is_opened(out, capsys, opened_models):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve(out, "--port", port) == 2
    assert capsys.readouterr().err == (
        f"fastclip serve: port {port} of 127.0.0.1 is in use: choose another with --port, or 0 for "
        "any that is free\n"
    )
    assert opened_models == []


def test_another_address_than_loopback_is_warned_of(out, capsys):
    visitor = Visitor(capsys, lambda address: address, signal.SIGINT)
    visitor.start()
    assert serve(out, "--host", "0.0.0.0", "--port", 0) == 0
    visitor.join()
    assert visitor.found.startswith("http://0.0.0.0:")
    assert visitor.warned.startswith("warning: whoever reaches 0.0.0.0 may search")
    assert "images have no index: `fastclip index` makes searches quicker" in visitor.warned


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["--port", "0", "--host", "192.0.2.7"], "192.0.2.7 cannot be listened on"),
        (["--port", "0", "--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--port", "0", "--name", " "], "--name must not be empty"),
        (["--port", "0", "--over", "texts"], "has no vectors of texts"),
    ],
)
def test_what_cannot_be_served_is_refused(out, args, message, capsys):
    assert serve(out, *args) == 2
    told = capsys.readouterr().err
    assert told.startswith("fastclip serve: ") and message in told


def test_without_the_extra_it_is_named(out, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve(out) == 2
    assert 'pip install "starlette>=0.40" "uvicorn>=0.30"' in capsys.readouterr().err
