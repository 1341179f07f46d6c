"""An application asked in the process, without a socket: one request, or many at a time."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app, method: str, address: str, body: object = None, pieces: list[bytes] | None = None,
    **headers: str,
) -> Answer:  # fmt: skip
    """Ask for an address such as "/image/7?size=small".

    Args:
        body: bytes, or what is sent as JSON; or `pieces`, after the last of which the client waits
            for ever if that is empty.
    """
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    waiting = [content] if pieces is None else list(pieces)
    parts = urlsplit(address)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": parts.path, "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(), "root_path": "", "server": ("127.0.0.1", 1234),
        "client": ("127.0.0.1", 50000),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in ({"host": "127.0.0.1:1234"} | headers).items()
        ],
    }  # fmt: skip
    sent: list[dict] = []

    async def receive() -> dict:
        if waiting and waiting[0] == b"" and pieces is not None:
            await asyncio.sleep(3600)
        if not waiting:
            return {"type": "http.disconnect"}
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message: dict) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:
        if not sent:  # otherwise it is for the server's log
            raise
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], named, b"".join(m.get("body", b"") for m in sent[1:]))


def get(app, address: str, **headers: str) -> Answer:
    return asyncio.run(ask(app, "GET", address, **headers))


def post(app, address: str, body: object, **headers: str) -> Answer:
    return asyncio.run(ask(app, "POST", address, body, **headers))


def together(*requests: Coroutine) -> list[Any]:
    async def all_of_them():
        return await asyncio.gather(*requests)

    return asyncio.run(all_of_them())
