"""clip-retrieval's endpoints, for its clients: /knn-service, /metadata and /indices-list.

clip-retrieval's server has models for aesthetics, safety, violence and other languages, and fetches
images from addresses. This server has none of these models and fetches nothing: a request for one
raises an error that names it. By default `clip_client.py` requests four of them; these default
values are ignored, and named in the header `Fastclip-Ignored` of the answer and once on standard
error.
"""

import sys
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastclip.data.quoting import quoted
from fastclip.search.duplicates import ALIKE
from fastclip.search.query import IMAGE, TEXT, Part
from fastclip.search.results import Result, strict_json
from fastclip.serve.fields import Fields
from fastclip.serve.questions import Query, Search
from fastclip.serve.refusal import Refusal
from fastclip.serve.requests import image_of, json_of, vector_of
from fastclip.serve.service import Service

SIDES = {"image": "images", "text": "texts"}
IGNORED = "Fastclip-Ignored"
# Options that this server lacks, with the values that switch them off; clip_client.py's defaults.
OFF: dict[str, tuple[Any, ...]] = {
    "use_mclip": (False,),
    "use_safety_model": (False,),
    "use_violence_detector": (False,),
    "aesthetic_score": ("",),
    "aesthetic_weight": ("", 0),
}
BY_DEFAULT: dict[str, tuple[Any, ...]] = {
    "use_safety_model": (True,),
    "use_violence_detector": (True,),
    "aesthetic_score": (9, "9"),
    "aesthetic_weight": (0.5, "0.5"),
}


class Knn:
    """The endpoints of one service."""

    def __init__(self, service: Service) -> None:
        self._service, self._has_told = service, False

    async def knn_service(self, request: Request) -> Response:
        service, limits = self._service, self._service.limits
        fields = Fields(await json_of(request, limits))
        ignored = _ignored(fields)
        over = SIDES[fields.choice("modality", tuple(SIDES), "image")]
        self._require_index(fields)
        if over not in service.searchers:
            raise Refusal(400, f"{service.name} has no {over}", "modality")
        num_images = fields.count("num_images", 100, limits.results)
        top = fields.count("num_result_ids", num_images, limits.results)
        alike = ALIKE if fields.flag("deduplicate") else None
        query = self._query(fields, service.searchers[over].side.dim)
        fields.end()
        results = (await service.ask(Search(over, query, top, alike))).results
        found = [self._result(request, result) for result in results[:num_images]]
        found += [{"id": r.id, "similarity": r.similarity} for r in results[num_images:]]
        return JSONResponse(found, headers=self._told(ignored))

    async def metadata(self, request: Request) -> Response:
        service = self._service
        fields = Fields(await json_of(request, service.limits))
        self._require_index(fields)
        ids = fields.take("ids")
        fields.end()
        if not isinstance(ids, list) or not all(type(number) is int for number in ids):
            raise Refusal(400, f"ids must be a list of numbers of rows, got {quoted(ids)}", "ids")
        if len(ids) > service.limits.results:
            raise Refusal(
                400, f"ids must be {service.limits.results} at most, got {len(ids)}", "ids"
            )
        num = len(service.embeddings)
        if wrong := [number for number in ids if not 0 <= number < num]:
            message = f"rows are numbered from 0 to {num - 1}, got {quoted(wrong[0])}"
            raise Refusal(400, message, "ids")
        rows = await service.readers.do(service.embeddings.metadata, ids)
        return JSONResponse(
            [
                {"id": number, "metadata": strict_json(row)}
                for number, row in zip(ids, rows, strict=True)
            ]
        )

    async def indices_list(self, request: Request) -> Response:
        return JSONResponse([self._service.name])

    def _require_index(self, fields: Fields) -> None:
        name = fields.text("indice_name")
        if name is not None and name != self._service.name:
            message = f"there is no index {quoted(name)}; the index is {quoted(self._service.name)}"
            raise Refusal(404, message, "indice_name")

    def _query(self, fields: Fields, dim: int) -> Query | np.ndarray:
        text, image = fields.text("text"), fields.text("image")
        if fields.text("image_url"):
            message = "image_url is not supported, as this server fetches nothing; send image"
            raise Refusal(400, message, "image_url")
        vector = fields.take("embedding_input")
        given = {"text": text, "image": image, "embedding_input": vector}
        names = [name for name, value in given.items() if value not in (None, "")]
        if len(names) != 1:
            what = " and ".join(names) or "none"
            raise Refusal(400, f"exactly one of {', '.join(given)} must be given, got {what}")
        if text:
            return (Part(text, 1.0, TEXT),)
        if image:
            return (Part(image_of(image, "image"), 1.0, IMAGE),)
        return vector_of(vector, dim, "embedding_input")

    def _result(self, request: Request, result: Result) -> dict[str, Any]:
        values = result.to_dict()
        if "url" not in values and self._service.has_image(result):
            values["url"] = f"{request.base_url}image/{result.id}"
        return values

    def _told(self, ignored: list[str]) -> dict[str, str]:
        if not ignored:
            return {}
        if not self._has_told:
            self._has_told = True
            print(
                f"a client asked for {', '.join(ignored)}, which this server does not have and "
                f"ignores; the header {IGNORED} of each such answer says so too",
                file=sys.stderr,
            )
        return {IGNORED: ", ".join(ignored)}


def _ignored(fields: Fields) -> list[str]:
    """Return the names of fields whose default values ask for options that this server lacks."""
    ignored = []
    for name, off in OFF.items():
        value = fields.take(name)
        if value is None or _is_in(value, off):
            continue
        if not _is_in(value, BY_DEFAULT.get(name, ())):
            raise Refusal(400, f"{name} = {quoted(value)} is not supported by this server", name)
        ignored.append(name)
    return ignored


def _is_in(value: Any, values: tuple[Any, ...]) -> bool:
    """Return whether a value is among others, where true is not 1 and false is not 0."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in values
    )
