"""Run an application on a port, and stop it cleanly on a signal.

On SIGINT or SIGTERM the server takes no more connections, answers or rejects the waiting requests
within the time that an answer may take, and returns. A second SIGINT ends it at once.
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
    """A port is in use by another program, or may not be used; the message says which."""


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on a port of this machine.

    Args:
        host: an address or a name of this machine.
        port: the port; 0 stands for any free port.

    Raises:
        PortInUse: the port cannot be used.
        OSError: the host is not a name or an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is in use"
        elif error.errno == errno.EACCES:
            reason = f"port {port} of {host} needs permissions that this user does not have"
        else:
            raise OSError(f"cannot listen on the host {host}: {error.strerror or error}") from None
        advice = "choose another port with --port, or 0 for any free port"
        raise PortInUse(f"{reason}; {advice}") from None


def address_of(listening: socket.socket) -> str:
    """Return the address of a socket for a browser, such as "http://127.0.0.1:1234/"."""
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
                # Reading a request may take this long, and answering it as long again.
                timeout_graceful_shutdown=int(2 * limits.seconds) + 1,
            )
        )  # fmt: skip

    def stop(self) -> None:
        """Make `run` return; may be called from any thread."""
        self._server.should_exit = True

    def run(self, when_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal, or until `stop` is called.

        Args:
            when_ready: called just before the server starts to answer.
        """
        # uvicorn ends on a signal, and then raises it again for the previous handler.
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
