"""A server on a free port of this machine, in a thread."""

import contextlib
import threading
from collections.abc import Iterator

from fastclip.serve.app import make_app
from fastclip.serve.guard import names_of
from fastclip.serve.server import Server, address_of, open_socket
from fastclip.serve.service import Service


@contextlib.contextmanager
def live(service: Service) -> Iterator[str]:
    """Serve, and close the service at the end; yields the address, with a slash behind it."""
    with open_socket("127.0.0.1", 0) as listening:
        server = Server(make_app(service, names_of("127.0.0.1")), listening, service.limits)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield address_of(listening)
        finally:
            server.stop()
            thread.join()
            service.close()
