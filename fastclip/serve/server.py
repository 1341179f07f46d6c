"""From a service to a socket and back: a port, signals, and an end at which nobody is left waiting.

On SIGINT or SIGTERM no connection is taken any more, what was asked is answered or refused within
the time that an answer may take, and the server returns. A second SIGINT ends it at once.
"""

import errno
import signal
import socket
import threading
from collections.abc import Callable

from starlette.types import ASGIApp

from fastclip.serve.connection import connections_for
from fastclip.serve.limits import Limits


class PortInUse(OSError):
    """A port that another program has, or that is not ours to take; the message says which."""


def open_socket(host: str, port: int) -> socket.socket:
    """Take a port of this machine, and listen.

    Args:
        host: an address or a name of this machine.
        port: 0 stands for any that is free.

    Raises:
        PortInUse: the port cannot be taken.
        OSError: there is no such host.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is in use"
        elif error.errno == errno.EACCES:
            reason = f"port {port} of {host} may not be taken"
        else:
            raise OSError(f"{host} cannot be listened on: {error.strerror or error}") from None
        advice = "choose another with --port, or 0 for any that is free"
        raise PortInUse(f"{reason}: {advice}") from None


def address_of(listening: socket.socket) -> str:
    """Return the address of a socket as a browser takes it, "http://127.0.0.1:1234/"."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Server:
    """An application on a socket.

    Example:
        >>> server = Server(app, open_socket("127.0.0.1", 0), Limits())
        >>> server.run(lambda: print("ready"))  # until a signal, or `stop` from another thread
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, limits: Limits) -> None:
        import uvicorn

        self._socket = listening
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, loop="asyncio", http=connections_for(limits.seconds), ws="none", lifespan="on",
                log_config=None, access_log=False, server_header=False, proxy_headers=False,
                limit_concurrency=limits.connections, timeout_keep_alive=5,
                # Of a request both its reading and its answering may take so long.
                timeout_graceful_shutdown=int(2 * limits.seconds) + 1,
            )
        )  # fmt: skip

    def stop(self) -> None:
        """Let `run` come to its end; may be called from any thread."""
        self._server.should_exit = True

    def run(self, when_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal or `stop`.

        Args:
            when_ready: called as soon as the server is about to answer.
        """
        # uvicorn ends on a signal, and then raises it again for whom it concerned before.
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda *_: self.stop())
        try:
            when_ready()
            self._server.run([self._socket])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._socket.close()
