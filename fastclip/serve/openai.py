"""The endpoint /v1/embeddings, which returns vectors of texts in the form of OpenAI's API."""

import base64

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastclip.data.quoting import quoted
from fastclip.serve.fields import Fields
from fastclip.serve.questions import Embed
from fastclip.serve.refusal import Refusal
from fastclip.serve.requests import json_of
from fastclip.serve.service import Service

FORMATS = ("float", "base64")


class OpenAI:
    """The endpoint of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def embeddings(self, request: Request) -> Response:
        fields = Fields(await json_of(request, self._service.limits))
        texts = self._texts(fields)
        model = self._model(fields)
        encode = _entries if fields.choice("encoding_format", FORMATS, "float") == "float" else _b64
        dim = self._service.searchers[self._service.over].side.dim
        if fields.count("dimensions", dim, 2**31) != dim:
            raise Refusal(400, f"dimensions must be {dim}, as of this model", "dimensions")
        fields.text("user")  # identifies the user, and has no effect
        fields.end()
        found = await self._service.ask(Embed(texts))
        data = [
            {"object": "embedding", "index": number, "embedding": encode(vector)}
            for number, vector in enumerate(found.vectors)
        ]
        usage = {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens}
        return JSONResponse({"object": "list", "data": data, "model": model, "usage": usage})

    def _texts(self, fields: Fields) -> tuple[str, ...]:
        given = fields.take("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            message = f"input must be a text or a list of texts, got {quoted(given)}"
            raise Refusal(400, message, "input")
        if not texts or not all(texts):
            raise Refusal(400, "input must have at least one text, and no empty text", "input")
        most = self._service.limits.texts
        if len(texts) > most:
            raise Refusal(400, f"input must have at most {most} texts, got {len(texts)}", "input")
        return tuple(texts)

    def _model(self, fields: Fields) -> str:
        known = (self._service.name, self._service.ready.name)
        name = fields.text("model")
        if name is None:
            raise Refusal(400, f"model is missing; it must be {quoted(known[0])}", "model")
        if name not in known:
            message = f"there is no model {quoted(name)}; this server has {quoted(known[0])}"
            raise Refusal(404, message, "model", "model_not_found")
        return name


def _entries(vector: np.ndarray) -> list[float]:
    return vector.astype(np.float64).tolist()


def _b64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
