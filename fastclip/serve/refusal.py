"""Requests that are refused, and the shapes in which clients expect to be told so."""

from typing import Any


class Refusal(Exception):
    """A request that is not answered; the message is for who sent it.

    Attributes:
        status: HTTP's number of the reason.
        field: which field of the request is meant, if it is one.
        code: a word for the reason that programs know, in OpenAI's shape.
    """

    def __init__(
        self, status: int, message: str, field: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.code = status, field, code


def body_of(path: str, status: int, message: str, refusal: Refusal | None = None) -> dict[str, Any]:
    """Return what a refusal says as JSON: in OpenAI's shape below /v1, in flask's elsewhere."""
    if not path.startswith("/v1/"):
        return {"message": message}
    kind = "invalid_request_error" if status < 500 else "server_error"
    field, code = (refusal.field, refusal.code) if refusal else (None, None)
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}
