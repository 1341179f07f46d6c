"""Guard all endpoints: reject requests from pages of other sites, and set security headers.

A page from another site must not query a server on the user's own machine. The header `Host` has
the name under which a browser asks, so that a foreign name that points at 127.0.0.1 is rejected.
The header `Origin` has the site of the page that asks; other origins are rejected, and no header
allows them to read answers. Scripts and styles come from this server only, and are never inline.
"""

import ipaddress
import time
from collections.abc import Container
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastclip.data.quoting import quoted_text
from fastclip.serve.metrics import Metrics
from fastclip.serve.refusal import body_of

LOCAL = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on `host`, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> tuple[str, ...] | None:
    """Return the host names under which a server on `host` may be asked; None allows any."""
    return (host.lower(), *LOCAL) if is_loopback(host) else None


class Guard:
    """Wraps an application: rejects foreign requests, adds headers and counts answers.

    Args:
        app: the application.
        metrics: counts the answers.
        endpoints: the first parts of paths, such as "/image", that have counts of their own.
        names: the host names under which clients may ask, see `names_of`; None allows any.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        endpoints: Container[str],
        names: tuple[str, ...] | None,
    ) -> None:
        self._app, self._metrics = app, metrics
        self._endpoints, self._names = endpoints, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            objection = self._objection_to(Headers(scope=scope))
            if objection is None:
                await self._app(scope, receive, send_guarded)
            else:
                body = body_of(scope["path"], 403, objection)
                await JSONResponse(body, 403)(scope, receive, send_guarded)
        finally:
            self._metrics.answered(self._endpoint(scope["path"]), status, time.monotonic() - start)

    def _objection_to(self, headers: Headers) -> str | None:
        hosts = headers.getlist("host")
        for host in hosts:
            if self._names is not None and _parts_of(f"//{host}")[0] not in self._names:
                return f"the host {quoted_text(host)} is not a name of this server"
        for origin in headers.getlist("origin"):
            if _parts_of(origin) not in [_parts_of(f"//{host}") for host in hosts]:
                return f"a page from {quoted_text(origin)} may not ask this server"
        return None

    def _endpoint(self, path: str) -> str:
        first = "/" + path[1:].partition("/")[0]
        return first if first in self._endpoints else "other"


def _parts_of(address: str) -> tuple[str | None, int | None]:
    """Return the host name and the port of an address, or (None, None) if it is not an address."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.port
    except ValueError:
        return None, None
