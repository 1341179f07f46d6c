"""From a service to a socket: addresses, a fault that is logged, and an end without a signal."""

import contextlib
import socket
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from fastclip.search.searcher import Searcher
from fastclip.serve.limits import Limits
from fastclip.serve.server import PortInUse, address_of, open_socket
from fastclip.serve.service import Service
from tests.support.live import live


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_free_port_has_an_address_as_browsers_take_it(host):
    try:
        listening = open_socket(host, 0)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with listening:
        address = address_of(listening)
        port = listening.getsockname()[1]
        assert address == f"http://{'[::1]' if host == '::1' else '127.0.0.1'}:{port}/"
        with pytest.raises(PortInUse, match=f"port {port} of {host} is in use"):
            open_socket(host, port)


def test_faults_are_in_the_log_and_the_server_goes_on(service, monkeypatch, caplog):
    def fail(*args, **options):
        raise RuntimeError("a secret path")

    with live(Service("index", service.searchers)) as address:
        with monkeypatch.context() as broken:
            broken.setattr(Searcher, "answers_of", fail)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}search", b'{"q": "number 1"}', timeout=10)
            assert refused.value.code == 500 and b"secret" not in refused.value.read()
            refused.value.close()
        with urllib.request.urlopen(f"{address}search", b'{"q": "number 1"}', timeout=10) as answer:
            assert answer.status == 200
    assert "a secret path" in caplog.text


def test_connections_on_which_nothing_is_asked_do_not_shut_out_others(service):
    limits = Limits(seconds=1.0, connections=8)
    with live(Service("index", service.searchers, limits)) as address:
        place = urlsplit(address)
        with contextlib.ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection((place.hostname, place.port), 10))
                for _ in range(8)
            ]
            for one in silent[4:]:
                one.sendall(b"GET / HT")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}health", timeout=10)
            assert refused.value.code == 503
            refused.value.close()
            for one in silent:
                assert one.recv(1) == b""  # closed by the server
            with urllib.request.urlopen(f"{address}health", timeout=10) as answer:
                assert answer.status == 200


def test_a_connection_that_stops_within_its_second_request_is_closed_too(service):
    with live(Service("index", service.searchers, Limits(seconds=0.3))) as address:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), 10) as one:
            request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            one.sendall(request)
            received = b""
            while not received.endswith(b"}"):
                received += one.recv(2**16)
            time.sleep(0.4)  # longer than a header may take: nothing of one has come
            one.sendall(request + b"GET / HT")
            while received.count(b"}}") < 2:
                received += one.recv(2**16)
            assert received.count(b"HTTP/1.1 200") == 2
            start = time.monotonic()
            one.sendall(b"TP/1.1\r\n")
            while one.recv(2**16):
                pass
            assert time.monotonic() - start < 3  # sooner than uvicorn's 5 s


def test_hosts_that_are_not_this_server_are_refused_on_the_wire(service):
    with live(Service("index", service.searchers)) as address:
        request = urllib.request.Request(f"{address}health", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403
        refused.value.close()
