"""The server's front: it holds the limits, and passes on what an engine then answers.

llama.cpp's own server reads a body of any size (10 MB: 13 s of a core and 1.4 GB), queues without
end and lets one answer run to the end of the context; so an engine stands behind this one, on a
loopback port and with a key that only this one has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from crore.serve.body import read_body
from crore.serve.requests import (
    GENERATE,
    Limits,
    Refused,
    check_key,
    check_origin,
    check_path,
    parse_body,
    within_tokens,
)
from crore.serve.server import Behind

PASSED_ON: Final = ("accept", "accept-encoding", "if-none-match")
"""Headers of a request that its engine sees."""
DROPPED: Final = frozenset({"connection", "keep-alive", "server", "transfer-encoding", "date"})
"""Headers of an engine's answer that end here."""
WITH_KEY: Final = ("/v1/", "/models", "/metrics", "/props")
"""What a GET needs the key for; the page does without, for it asks for the key itself."""
MODELS: Final = "/v1/models"
SILENT_S: Final = 600.0
"""Seconds without a word after which an engine is given up."""


@dataclass(slots=True)
class Front:
    """An ASGI application: who may ask, how much, and whom it asks itself."""

    behind: Behind
    """The engine."""
    client: httpx2.AsyncClient
    key: str = ""
    """Asked of every client; of none where empty."""
    limits: Limits = field(default_factory=Limits)
    under_way: int = 0
    """Answers being made or waited for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        async with AsyncExitStack() as held:
            with contextlib.suppress(ClientDisconnect):  # nobody is there to be answered
                response = await self._response(request, held)
                await response(scope, receive, send)

    async def _response(self, request: Request, held: AsyncExitStack) -> Response:
        try:
            return await self._answer(request, held)
        except Refused as error:
            headers = {"retry-after": "1"} if error.status == 429 else {}
            return JSONResponse(error.record(), error.status, headers)
        except httpx2.HTTPError as error:
            failed = Refused(502, f"the engine did not answer ({type(error).__name__})")
            return JSONResponse(failed.record(), failed.status)

    async def _answer(self, request: Request, held: AsyncExitStack) -> Response:
        path = request.url.path
        check_origin(request.headers)
        check_path(request.method, path)
        if request.method == "POST" or path.startswith(WITH_KEY):
            check_key(request.headers, self.key)
        if path == MODELS and self.behind.model:
            return JSONResponse(_models(self.behind.name))
        body = b""
        if request.method == "POST":
            record = parse_body(await read_body(request, self.limits))
            record |= {"model": self.behind.model} if self.behind.model else {}
            if path in GENERATE:
                record = within_tokens(record, self.limits.tokens)
                held.enter_context(self._counted())
            body = json.dumps(record).encode()
        answer = await self._ask(request, body)
        held.push_async_callback(answer.aclose)
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in DROPPED}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self.under_way >= self.limits.requests:
            raise Refused(429, f"{self.under_way} requests are under way: try again in a moment")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def _ask(self, request: Request, body: bytes) -> httpx2.Response:
        """Return the engine's answer once it begins; ClientDisconnect when the client leaves."""
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        headers |= {"authorization": f"Bearer {self.behind.key}"}
        headers |= {"content-type": "application/json"} if body else {}
        url = httpx2.URL(self.behind.address).join(request.url.path).copy_with(
            query=request.url.query.encode()
        )  # fmt: skip
        asked = self.client.build_request(request.method, url, headers=headers, content=body)
        answer = asyncio.ensure_future(self.client.send(asked, stream=True))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        finally:
            gone.cancel()
            answer.cancel()  # nothing where it is done


def _models(name: str) -> dict[str, Any]:
    """Return OpenAI's list of the one model."""
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "crore"}]}


async def _gone(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def application(
    front: Front, hosts: list[str], beside: Mapping[str, ASGIApp] | None = None
) -> Starlette:
    """Return the whole application; `beside` are others below paths of their own.

    `hosts` are the names it answers to: on loopback only its own, so that no other site's name can
    be made to point here (DNS rebinding).
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with front.client:
            yield

    known = Middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    others = [route for path, app in (beside or {}).items() for route in _below(path, app)]
    return Starlette(routes=[*others, Mount("/", app=front)], middleware=[known], lifespan=lifespan)


def _below(path: str, app: ASGIApp) -> tuple[Route, Mount]:
    """Return the routes of an application below a path, which itself leads to its front page."""
    return Route(path, lambda _: RedirectResponse(f"{path}/")), Mount(path, app=app)


def engine_client() -> httpx2.AsyncClient:
    """Return the client that asks an engine: one connection per request.

    llama.cpp closes a connection after some requests, which may be while the next is on its way.
    """
    timeout = httpx2.Timeout(SILENT_S, connect=10.0)
    return httpx2.AsyncClient(
        timeout=timeout,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        trust_env=False,
    )
