"""From a service to a socket: addresses, a fault that is logged, and an end without a signal."""

import urllib.error
import urllib.request

import pytest

from fastclip.search.searcher import Searcher
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


def test_hosts_that_are_not_this_server_are_refused_on_the_wire(service):
    with live(Service("index", service.searchers)) as address:
        request = urllib.request.Request(f"{address}health", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403
        refused.value.close()
