"""Requests that are rejected, and the forms in which clients expect the error."""

from typing import Any


class Refusal(Exception):
    """A request is rejected; the message is for the client.

    Attributes:
        status: the HTTP status.
        field: the field of the request that is wrong, or None.
        code: the error code in OpenAI's form, or None.
    """

    def __init__(
        self, status: int, message: str, field: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.code = status, field, code


def body_of(path: str, status: int, message: str, refusal: Refusal | None = None) -> dict[str, Any]:
    """Return the JSON body of an error: in OpenAI's form below /v1, in flask's form elsewhere."""
    if not path.startswith("/v1/"):
        return {"message": message}
    kind = "invalid_request_error" if status < 500 else "server_error"
    field, code = (refusal.field, refusal.code) if refusal else (None, None)
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}
