"""Errors as `application/problem+json` (RFC 9457), from the one table."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from terraphim_rlm.core.errors import (
    Cancelled,
    FileTooLarge,
    InternalError,
    InvalidArgument,
    RlmError,
    UnknownCommand,
)

_BY_STATUS: dict[int, type[RlmError]] = {404: UnknownCommand, 413: FileTooLarge}
_MOST_SHOWN = 5
_OPENAI = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
"""HTTP status -> OpenAI's type of an error."""


class Json(Response):
    """A JSON response for any text: what UTF-8 cannot carry (a lone surrogate out of a sandbox) goes as an escape."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dumps(content)


def dumps(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False).encode()


def problem(error: RlmError, status: int | None = None) -> Response:
    """An error as a response."""
    kind = type(error).__name__
    code = error.row.http if status is None else status
    body = {
        "type": f"urn:terraphim-rlm:error:{error.row.code}",
        "title": re.sub(r"(?<!^)(?=[A-Z])", " ", kind).capitalize(),
        "status": code,
        "detail": error.message,
        "code": error.row.code,
        "fix": error.fix,
        "details": error.details,
    }
    after = error.details.get("retry_after")
    headers = {"Retry-After": str(after)} if isinstance(after, int) else {}
    return Response(dumps(_plain(body)), code, headers, media_type="application/problem+json")


def told(path: str, error: RlmError, status: int | None = None) -> Response:
    """An error in the shape that clients of this path know: OpenAI's below `/v1/`, else a problem."""
    if path.startswith("/v1/"):
        return Response(
            dumps(openai_error(error, status)), status or error.row.http, media_type="application/json"
        )
    return problem(error, status)


def openai_error(error: RlmError, status: int | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    code = error.row.http if status is None else status
    kind = _OPENAI.get(code, "invalid_request_error" if code < 500 else "server_error")
    said = {
        "message": f"{error.message} {error.fix}".strip(),
        "type": kind,
        "param": error.details.get("name"),
        "code": error.row.code,
    }
    found: dict[str, Any] = _plain({"error": said})
    return found


def install(app: FastAPI) -> None:
    """Lets every failure of `app` leave it as a problem."""
    app.add_exception_handler(RlmError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _bug)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, RlmError)
    return told(request.url.path, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [_complaint(each) for each in error.errors()[:_MOST_SHOWN]]
    return told(request.url.path, InvalidArgument(f"The request is not valid: {'; '.join(found)}."))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, InvalidArgument)
    fix = "`/openapi.json` lists what there is." if error.status_code in (404, 405) else ""
    response = told(request.url.path, kind(f"{str(error.detail).rstrip('.')}.", fix=fix), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _left(request: Request, error: Exception) -> Response:
    return told(request.url.path, Cancelled("The client left."))


async def _bug(request: Request, error: Exception) -> Response:
    """The server itself prints the traceback."""
    return told(request.url.path, InternalError(f"{type(error).__name__}: {error}"[:1000]))


def _complaint(found: dict[str, Any]) -> str:
    """`body.timeout: Input should be ..`, without what was sent: that may be anything, of any size."""
    where = ".".join(str(part)[:40] for part in found["loc"][:6])
    return f"{where}: {str(found['msg'])[:200]}"


def _plain(value: Any) -> Any:
    """Details as JSON, whatever they were."""
    return json.loads(json.dumps(value, default=str))
