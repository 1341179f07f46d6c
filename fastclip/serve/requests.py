"""Read the contents of requests within limits of size and time."""

import asyncio
import base64
import binascii
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request

from fastclip.data.json_file import parse_json
from fastclip.data.quoting import quoted
from fastclip.serve.limits import Limits
from fastclip.serve.refusal import Refusal


async def json_of(request: Request, limits: Limits) -> Any:
    """Return the JSON body of a request, whatever its content type is.

    Raises:
        Refusal: the body is too large, takes too long, is not JSON, or has a key twice.
    """
    try:
        body = await asyncio.wait_for(_body(request, limits.body_bytes), limits.seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the request was not complete after {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the client went away") from None
    try:
        return parse_json(body, "the request", once=True)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


async def _body(request: Request, most: int) -> bytes:
    refusal = Refusal(413, f"the body of a request may have at most {most:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise refusal
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise refusal
    return bytes(body)


def image_of(text: str, field: str) -> bytes:
    """Return the bytes of an image file from base64, the only form in which requests send images.

    Raises:
        Refusal: the text is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{field} must be the base64 of an image file", field) from None


def vector_of(values: Any, dim: int, field: str) -> np.ndarray:
    """Return a (D,) float32 vector from a list of numbers.

    Raises:
        Refusal: `values` is not a list of D numbers, is not finite in float32, or is all 0.
    """
    kinds = {type(value) for value in values} if isinstance(values, list) else {list}
    if not kinds <= {int, float} or len(values) != dim:
        raise Refusal(400, f"{field} must be a list of {dim} numbers, got {quoted(values)}", field)
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, np.float64).astype(np.float32)
    except OverflowError:
        vector = np.full(dim, np.inf, np.float32)
    if not (np.isfinite(vector).all() and vector.any()):
        raise Refusal(400, f"{field} must be finite in float32, and not all 0", field)
    return vector


def row_of(text: str) -> int:
    """Return the number of a row from an address.

    Raises:
        Refusal: the text is not a number of a row.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Refusal(404, "the address of an image must end with the number of its row")
    return int(text)
