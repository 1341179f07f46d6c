"""This server's own endpoint, /search: a request has weighted parts; the answer has results.

    {"q": "cat + dog", "parts": [{"row": 7, "weight": -0.5}, {"image": "<base64>"}], "top": 40,
     "over": "images", "dedup": true, "min_z": 3}

`q` is a line as people type it (see `words.py`); its texts come before the other parts. `dedup` is
true, false or a cosine. The answer has a headline, the parts as the server has understood them, and
for each result what `fastclip search --json` prints and the address of its image.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastclip.data.quoting import quoted
from fastclip.search.duplicates import ALIKE
from fastclip.search.query import IMAGE, ROW, TEXT, Part, QueryError, parse_words
from fastclip.search.results import strict_json
from fastclip.search.searcher import Answer
from fastclip.serve.fields import Fields
from fastclip.serve.questions import Search
from fastclip.serve.refusal import Refusal
from fastclip.serve.requests import image_of, json_of
from fastclip.serve.service import Service
from fastclip.serve.words import split_words

TOP = 40
MOST_ROWS = 2**62


class Searching:
    """The endpoint of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def search(self, request: Request) -> Response:
        limits = self._service.limits
        fields = Fields(await json_of(request, limits))
        parts = _parts(fields)
        if not 1 <= len(parts) <= limits.parts:
            message = f"a query must have 1 to {limits.parts} parts, got {len(parts)}"
            raise Refusal(400, message, "parts")
        over = fields.choice("over", tuple(self._service.searchers), self._service.over)
        top = fields.count("top", TOP, limits.results)
        alike, min_z = _cosine(fields), fields.number("min_z")
        fields.end()
        answer = await self._service.ask(Search(over, tuple(parts), top, alike, min_z))
        return JSONResponse(self._told(over, parts, answer))

    def _told(self, over: str, parts: list[Part], answer: Answer) -> dict[str, Any]:
        results = answer.results
        return {
            "over": over,
            "parts": [_told_part(part) for part in parts],
            "headline": answer.headline,
            "judged_by": answer.judged_by,
            "results": [result.to_dict() for result in results],
            "images": [f"image/{r.id}" if self._service.has_image(r) else None for r in results],
        }


def _parts(fields: Fields) -> list[Part]:
    line, others = fields.text("q") or "", fields.take("parts", [])
    if not isinstance(others, list):
        raise Refusal(400, f"parts must be a list, got {quoted(others)}", "parts")
    try:
        texts = parse_words(split_words(line))
    except QueryError as error:
        raise Refusal(400, str(error), "q") from None
    return texts + [_part(values, f"part {n}") for n, values in enumerate(others, start=1)]


def _part(values: Any, name: str) -> Part:
    fields = Fields(values, name)
    text, image = fields.text(TEXT), fields.text(IMAGE)
    row = fields.take(ROW)
    weight = fields.number("weight", 1.0)
    fields.end()
    if [bool(text), bool(image), row is not None].count(True) != 1:
        raise Refusal(400, f"{name} must have one of text, image and row", "parts")
    if weight == 0:
        raise Refusal(400, f"the weight of {name} must not be 0", "parts")
    if text:
        return Part(text, weight, TEXT)
    if image:
        return Part(image_of(image, f"image of {name}"), weight, IMAGE)
    if type(row) is not int or not 0 <= row < MOST_ROWS:
        raise Refusal(400, f"row of {name} must be a row's number, got {quoted(row)}", "parts")
    return Part(row, weight, ROW)


def _told_part(part: Part) -> dict[str, Any]:
    value = None if part.kind == IMAGE else part.value
    return {"kind": part.kind, "value": strict_json(value), "weight": part.weight}


def _cosine(fields: Fields) -> float | None:
    value = fields.take("dedup", False)
    if isinstance(value, bool):
        return ALIKE if value else None
    if not isinstance(value, int | float) or not 0 < value <= 1:
        message = f"dedup must be true, false or a cosine above 0, up to 1, got {quoted(value)}"
        raise Refusal(400, message, "dedup")
    return float(value)
