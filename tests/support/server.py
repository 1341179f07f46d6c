"""A file server on this machine that takes the place of the Hub, and can be told to fail."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


class Handler(http.server.SimpleHTTPRequestHandler):
    requested: ClassVar[list[str]] = []
    cut_off: ClassVar[set[str]] = set()  # names of files that break off in the middle

    def do_GET(self):
        self.requested.append(self.path)
        name = self.path.rsplit("/", 1)[1]
        if name in self.cut_off:
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """Serve the files in `root`; yields the address. What is asked for is in `Handler`."""
    Handler.requested, Handler.cut_off = [], set()
    handler = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
