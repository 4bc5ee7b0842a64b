"""What a client may ask of the server: how much, for how long, and with which key."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crore.errors import InputError

GENERATE: Final = frozenset(
    {"/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/completion"}
)
"""Paths whose answers cost tokens."""
HELPERS: Final = frozenset({"/tokenize", "/detokenize", "/apply-template"})
"""Other paths of the engine that take a body."""
TOKEN_KEYS: Final = ("max_tokens", "max_completion_tokens", "n_predict")
"""Names of the longest answer: OpenAI's old and new one, and llama.cpp's."""
KINDS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error",
    413: "invalid_request_error", 429: "rate_limit_error", 502: "api_error",
}  # fmt: skip
"""Status -> type of OpenAI's error objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one server takes on."""

    body_bytes: int = 1_000_000
    """Of one request."""
    tokens: int = 4096
    """Of one answer."""
    requests: int = 64
    """Answers under way or waiting; further requests are refused."""
    body_s: float = 30.0
    """Seconds within which a whole request must have come."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "tokens", "requests"):
            if not 1 <= getattr(self, name) < 1 << 40:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def record(self) -> dict[str, Any]:
        """Return the error as OpenAI's API gives it."""
        return {"error": {"message": self.message, "type": KINDS[self.status], "param": None,
                          "code": self.status}}  # fmt: skip


def check_key(headers: Mapping[str, str], key: str) -> None:
    """Raise Refused (401) unless the request carries the key, where one is asked for."""
    given = headers.get("authorization", "").removeprefix("Bearer ").strip()
    if key and not secrets.compare_digest(given.encode(), key.encode()):
        raise Refused(401, "no or wrong API key: send the header Authorization: Bearer KEY")


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise Refused (403) for a request that a page of another site makes."""
    origin = headers.get("origin", "")
    if origin and origin.partition("://")[2] != headers.get("host", ""):
        raise Refused(403, f"a page of {origin[:80]} may not use this server")


def check_path(method: str, path: str) -> None:
    """Raise Refused for what this server does not offer: 404, or 405 for a wrong method."""
    takes_body = path in GENERATE | HELPERS
    if method == "POST" and not takes_body:
        raise Refused(404, f"POST {path[:80]} is not offered: POST /v1/chat/completions is")
    if method not in ("GET", "HEAD", "POST") or (takes_body and method != "POST"):
        raise Refused(405, f"{method[:20]} {path[:80]} is not offered")


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the request's JSON object; Refused (400) for anything else."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        said = str(error).partition("\n")[0][:120]
        raise Refused(400, f"the body is not valid JSON: {said}") from error
    if not isinstance(record, dict):
        raise Refused(400, f"the body must be a JSON object, not {type(record).__name__}")
    return record


def within_tokens(record: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return the request with a longest answer: its own, or the limit where it names none.

    Refused (400) for more than the limit and for what is no whole number; below 0 means no limit
    of its own, as llama.cpp has it.
    """
    given = {key: record[key] for key in TOKEN_KEYS if record.get(key) is not None}
    for key, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(400, f"{key} must be a whole number, not {str(value)[:40]}")
        if value > limit:
            raise Refused(400, f"{key} is {value:,}; this server gives at most {limit:,}")
    asked = [value for value in given.values() if value >= 0]
    rest = {key: value for key, value in record.items() if key not in TOKEN_KEYS}
    return {**rest, "max_tokens": min([limit, *asked])}
