"""The application: paths with their endpoints, and the answers to errors."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fastclip.embeddings.same_file import FileChanged
from fastclip.search.results import strict_json
from fastclip.serve.fields import Fields
from fastclip.serve.guard import Guard
from fastclip.serve.knn import Knn
from fastclip.serve.metrics import CONTENT_TYPE
from fastclip.serve.openai import OpenAI
from fastclip.serve.refusal import Refusal, body_of
from fastclip.serve.requests import row_of
from fastclip.serve.searching import Searching
from fastclip.serve.service import Service
from fastclip.serve.thumbnails import SIZES, thumbnail

PAGE = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/main.js": ("main.js", "text/javascript"),
    "/page/answers.js": ("answers.js", "text/javascript"),
    "/page/chips.js": ("chips.js", "text/javascript"),
    "/page/dropping.js": ("dropping.js", "text/javascript"),
    "/page/query.js": ("query.js", "text/javascript"),
    "/page/results.js": ("results.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
OUTDATED = (
    "the embeddings were replaced or changed while they were served; the server must be restarted"
)
LOG = logging.getLogger("fastclip.serve")
RETRY = {"Retry-After": "1"}  # seconds, for a client that comes while too many wait


def make_app(service: Service, names: tuple[str, ...] | None = None) -> ASGIApp:
    """Return the application of a service; the application closes the service when it ends.

    Args:
        service: the service.
        names: the host names under which clients may ask, see `names_of`; None allows any.

    Example:
        >>> app = make_app(open_service(embeddings, ready), names_of("127.0.0.1"))
        >>> uvicorn.run(app, host="127.0.0.1", port=1234)
    """
    knn = Knn(service)
    routes = [
        Route("/knn-service", knn.knn_service, methods=["POST"]),
        Route("/metadata", knn.metadata, methods=["POST"]),
        Route("/indices-list", knn.indices_list, methods=["GET"]),
        Route("/search", Searching(service).search, methods=["POST"]),
        Route("/v1/embeddings", OpenAI(service).embeddings, methods=["POST"]),
        Route("/image/{row}", _image(service), methods=["GET"]),
        Route("/metrics", _metrics(service), methods=["GET"]),
        Route("/health", _health(service), methods=["GET"]),
        *(Route(path, _static(*file), methods=["GET"]) for path, file in PAGE.items()),
    ]
    endpoints = {"/" + route.path[1:].partition("/")[0] for route in routes}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    app = Starlette(
        routes=routes,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _unknown,
            FileChanged: _outdated,
            Exception: _failed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Guard(app, service.metrics, endpoints, names)


def _image(service: Service) -> Callable:
    async def image(request: Request) -> Response:
        fields = Fields(dict(request.query_params))
        size = fields.choice("size", tuple(SIZES), "small")
        fields.end()
        known = request.headers.get("if-none-match", "").strip('"')
        row = row_of(request.path_params["row"])
        found = await service.readers.do(
            thumbnail, service.embeddings, service.limits, row, size, known
        )
        # The browser must ask again each time: another folder may be served at the same address.
        headers = {"ETag": f'"{found.mark}"', "Cache-Control": "no-cache"}
        if found.jpeg is None:
            return Response(status_code=304, headers=headers)
        return Response(found.jpeg, headers=headers, media_type="image/jpeg")

    return image


def _metrics(service: Service) -> Callable:
    async def metrics(request: Request) -> Response:
        text = service.metrics.text(service.num_waiting)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return metrics


def _health(service: Service) -> Callable:
    async def health(request: Request) -> Response:
        sides = {
            name: {"vectors": len(searcher.side), "dim": searcher.side.dim}
            for name, searcher in service.searchers.items()
        }
        told = {"status": "ok", "name": service.name, "model": service.ready.name, "sides": sides}
        return JSONResponse(strict_json(told | {"most_results": service.limits.results}))

    return health


def _static(name: str, media_type: str) -> Callable:
    content = (Path(__file__).parent / "page" / name).read_bytes()

    async def static(request: Request) -> Response:
        return Response(content, headers={"Cache-Control": "no-cache"}, media_type=media_type)

    return static


async def _refused(request: Request, refusal: Refusal) -> Response:
    body = body_of(request.url.path, refusal.status, str(refusal), refusal)
    return JSONResponse(body, refusal.status, RETRY if refusal.status == 503 else None)


async def _unknown(request: Request, error: HTTPException) -> Response:
    body = body_of(request.url.path, error.status_code, error.detail)
    return JSONResponse(body, error.status_code, error.headers)


async def _outdated(request: Request, error: FileChanged) -> Response:
    """Refuse to combine old vectors with new metadata, until the server is restarted."""
    LOG.error("%s; restart the server to serve the current embeddings", error)
    return JSONResponse(body_of(request.url.path, 503, OUTDATED), 503)


async def _failed(request: Request, error: Exception) -> Response:
    """Tell the client that the server has failed; the traceback goes to the log."""
    return JSONResponse(body_of(request.url.path, 500, "the server failed; see its log"), 500)
