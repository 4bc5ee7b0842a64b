"""Pages, and questions about them that cost CPU time: who may ask, how much, how many at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from crore.errors import CroreError, Infeasible
from crore.serve.body import read_body
from crore.serve.requests import Limits, Refused, check_key, check_origin, parse_body

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A question's JSON object -> its answer's; CroreError for what has none."""
HEALTH: Final = "/healthz"
ICON: Final = "/favicon.ico"
"""Browsers ask for one; an empty answer keeps their console clean."""
SAFE: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer; a page's own policy says what may run in it."""
POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""Of what is no page."""
RETRY_S: Final = 2
"""Seconds after which one that found the queue full may ask again."""
SMALL: Final = Limits(body_bytes=8_000, requests=64, body_s=10.0)


@dataclass(kw_only=True)
class Site:
    """An ASGI application of ready pages and questions."""

    pages: Mapping[str, bytes]
    """Path -> HTML."""
    asks: Mapping[str, Ask]
    """Path -> what answers there; called in threads, several at a time."""
    key: str = field(default="", repr=False)
    """Asked of every client, as a bearer token or as the password a browser asks for; of none
    where empty."""
    limits: Limits = SMALL
    at_once: int = 2
    """Questions worked on at a time; a short one need not wait behind a long one."""
    under_way: int = 0
    """Questions worked on or waiting."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        with contextlib.suppress(ClientDisconnect):  # nobody is there to be answered
            response = await self._response(request)
            response.headers.update(SAFE)
            response.headers.setdefault("content-security-policy", POLICY)
            await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Refused as error:
            return _refusal(error.status, error.message)
        except CroreError as error:
            return _refusal(200 if isinstance(error, Infeasible) else 400, str(error))

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        check_origin(request.headers)
        if path == HEALTH:
            return PlainTextResponse("ok\n")
        check_key(_with_password(request.headers), self.key)
        if path == ICON:
            return Response(status_code=204)
        if path in self.pages and request.method in ("GET", "HEAD"):
            headers = {"content-security-policy": "frame-ancestors 'none'"}
            return Response(self.pages[path], media_type="text/html", headers=headers)
        if path in self.asks and request.method == "POST":
            return await self._asked(request, self.asks[path])
        known = path in self.pages or path in self.asks
        raise Refused(405 if known else 404, f"{request.method[:20]} {path[:80]} is not offered")

    async def _asked(self, request: Request, ask: Ask) -> Response:
        record = parse_body(await read_body(request, self.limits))
        with self._counted():
            async with self._limiter:
                if await request.is_disconnected():
                    raise ClientDisconnect  # it moved on while it waited
                answer = await _in_thread(ask, record)
        return JSONResponse(answer)

    @cached_property
    def _limiter(self) -> CapacityLimiter:
        return CapacityLimiter(self.at_once)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self.under_way >= self.limits.requests:
            raise Refused(503, f"{self.under_way} questions are waiting: ask again in a moment")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


async def _in_thread(ask: Ask, record: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return await to_thread.run_sync(ask, record, abandon_on_cancel=True)
    except asyncio.CancelledError as error:  # by the server alone, when it ends
        raise Refused(503, "this server is leaving: ask again when it is back") from error


def _refusal(status: int, message: str) -> JSONResponse:
    """Return an error as one line; a browser asks for the key where it is missing."""
    headers = {
        401: {"www-authenticate": 'Basic realm="crore: any name, and the key as password"'},
        503: {"retry-after": str(RETRY_S)},
    }.get(status, {})
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


def _with_password(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers in which the password that a browser sends stands as a bearer token."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return headers
    try:
        password = base64.b64decode(given).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        password = ""
    return {"authorization": f"Bearer {password}"}


def site_application(site: Site, hosts: list[str]) -> Starlette:
    """Return a site as a whole application that answers to the names `hosts` alone."""
    known = Middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return Starlette(routes=[Mount("/", app=site)], middleware=[known])
