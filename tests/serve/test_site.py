"""A site of pages and questions: who may ask, how much, how many at once."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from tests.serve.served import GIVE_UP_S

from crore.errors import Infeasible, InputError
from crore.serve.api import Front, application, engine_client
from crore.serve.requests import Limits
from crore.serve.server import Behind, Binding, hosts_of
from crore.serve.site import Site, site_application

HOSTS = ["localhost", "127.0.0.1"]
PAGE = b"<!doctype html><title>a page</title>"


def reply(asked: Any) -> Any:
    """Answer a question, or refuse it as asked."""
    if "refuse" in asked:
        raise InputError(asked["refuse"])
    if "impossible" in asked:
        raise Infeasible(asked["impossible"])
    if "break" in asked:
        raise ZeroDivisionError
    return {"asked": asked}


def site(**more: Any) -> Site:
    return Site(pages={"/": PAGE}, asks={"/plan": reply}, **more)


def ask(app: Any, method: str = "GET", path: str = "/", **more: Any) -> httpx2.Response:
    """Return the answer to one request."""

    async def once() -> httpx2.Response:
        async with client(app) as made:
            return await made.request(method, path, **more)

    return asyncio.run(once())


def client(app: Any) -> httpx2.AsyncClient:
    whole = site_application(app, HOSTS) if isinstance(app, Site) else app
    wire = httpx2.ASGITransport(app=whole, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=wire, base_url="http://localhost:8080")


def test_the_page_comes_with_headers_that_keep_it_to_itself():
    got = ask(site())
    assert (got.status_code, got.content) == (200, PAGE)
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "access-control-allow-origin" not in got.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200), ("HEAD", "/", 200), ("GET", "/favicon.ico", 204),
        ("DELETE", "/", 405), ("POST", "/", 405), ("GET", "/plan", 405), ("PUT", "/plan", 405),
        ("OPTIONS", "/plan", 405), ("GET", "/else", 404), ("POST", "/else", 404),
        ("GET", "/../../etc/passwd", 404), ("GET", "/..%2f..%2fetc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404), ("GET", "//etc/passwd", 404),
        ("GET", "/plan/../../../etc/passwd", 404), ("GET", "/<script>alert(1)</script>", 404),
    ],
)  # fmt: skip
def test_what_is_offered_and_what_is_not(method, path, status):
    got = ask(site(), method, path)
    assert got.status_code == status
    assert got.headers["x-content-type-options"] == "nosniff"
    if status in (404, 405):
        assert set(got.json()) == {"error"}
        assert got.headers["content-type"] == "application/json"
        assert "default-src 'none'" in got.headers["content-security-policy"]


def test_a_question_is_answered_refused_or_without_an_answer():
    assert ask(site(), "POST", "/plan", json={"a": 1}).json() == {"asked": {"a": 1}}
    refused = ask(site(), "POST", "/plan", json={"refuse": "two\nlines"})
    assert (refused.status_code, refused.json()) == (400, {"error": "two lines"})
    none = ask(site(), "POST", "/plan", json={"impossible": "too small"})
    assert (none.status_code, none.json()) == (200, {"error": "too small"})
    assert ask(site(), "POST", "/plan", json={"break": 1}).status_code == 500


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe", b"{" * 7000, b'{"a":' * 1200,
        b'{"a": NaN', b"1" * 7000, b'{"a": 1}{', b"\x00" * 100,
    ],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_what_is_no_json_object_is_refused_in_one_line(body):
    got = ask(site(), "POST", "/plan", content=body)
    assert got.status_code == 400
    assert "the body" in got.json()["error"]
    assert len(got.json()["error"]) <= 240


def test_a_body_that_is_too_large_or_too_slow_is_refused():
    assert ask(site(), "POST", "/plan", content=b" " * 8001).status_code == 413

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.02)

    got = ask(site(limits=Limits(body_s=0.1)), "POST", "/plan", content=dripping())
    assert got.status_code == 408


def test_other_sites_may_neither_use_it_nor_be_it():
    assert ask(site(), headers={"host": "evil.example"}).status_code == 400
    theirs = {"origin": "http://evil.example"}
    assert ask(site(), "POST", "/plan", json={}, headers=theirs).status_code == 403
    own = {"origin": "http://localhost:8080"}
    assert ask(site(), "POST", "/plan", json={}, headers=own).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_on_loopback_it_answers_to_the_address_it_listens_on(host):
    app = site_application(site(), hosts_of(Binding(host=host)))
    written = f"[{host}]:8080" if ":" in host else f"{host}:8080"
    assert ask(app, headers={"host": written}).status_code == 200
    assert ask(app, headers={"host": "evil.example:8080"}).status_code == 400


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("", 401), ("Bearer right", 200), ("Bearer wrong", 401), (basic("right"), 200),
        (basic("wrong"), 401), ("Basic %%%", 401), ("Basic /w==", 401), ("Basic", 401),
        (basic("right:more"), 401), ("Bearer rîght", 401),
    ],
)  # fmt: skip
def test_with_a_key_everything_but_health_asks_for_it(given, status):
    headers = {"authorization": given.encode("latin-1")} if given else {}
    kept = site(key="right")
    assert ask(kept, headers=headers).status_code == status
    asked = ask(kept, "POST", "/plan", json={}, headers=headers)
    assert asked.status_code == status
    assert ask(kept, "GET", "/healthz").status_code == 200
    assert ("www-authenticate" in asked.headers) == (status == 401)


def test_it_can_live_below_a_path_beside_a_model_to_talk_to():
    def whole() -> Starlette:
        nobody = Behind(address="http://127.0.0.1:1", key="inner", name="model")
        front = Front(behind=nobody, client=engine_client(), key="right")
        return application(front, HOSTS, {"/planner": site(key="right")})

    key = {"authorization": "Bearer right"}
    assert ask(whole(), "GET", "/planner").headers["location"] == "/planner/"
    assert ask(whole(), "GET", "/planner/", headers=key).content == PAGE
    assert ask(whole(), "GET", "/planner/").status_code == 401
    asked = ask(whole(), "POST", "/planner/plan", json={"a": 1}, headers=key)
    assert asked.json() == {"asked": {"a": 1}}
    assert ask(whole(), "GET", "/v1/models", headers=key).status_code == 502  # the model's own


def test_more_than_the_queue_holds_are_sent_away_and_told_when_to_come_back():
    open_now, began = threading.Event(), threading.Semaphore(0)

    def slow(asked: Any) -> Any:
        began.release()
        assert open_now.wait(GIVE_UP_S)
        return asked

    busy = Site(pages={}, asks={"/plan": slow}, at_once=1, limits=Limits(requests=3))

    async def crowd() -> None:
        async with client(busy) as made:
            waiting = [asyncio.create_task(made.post("/plan", json={"k": k})) for k in range(3)]
            while busy.under_way < 3:
                await asyncio.sleep(0.01)
            late = await made.post("/plan", json={})
            assert late.status_code == 503
            assert int(late.headers["retry-after"]) >= 1
            assert "3 questions are waiting" in late.json()["error"]
            assert (await made.get("/healthz")).status_code == 200
            while not began.acquire(blocking=False):
                await asyncio.sleep(0.01)
            assert not began.acquire(blocking=False)  # one at a time
            open_now.set()
            assert [(await task).json()["k"] for task in waiting] == [0, 1, 2]
            assert (await made.post("/plan", json={"k": 9})).json() == {"k": 9}

    asyncio.run(crowd())
    assert busy.under_way == 0


def test_a_client_that_left_while_it_waited_costs_nothing():
    asked: list[Any] = []

    def note(it: Any) -> Any:
        asked.append(it)
        return it

    app = Site(pages={}, asks={"/plan": note})
    scope = {"type": "http", "method": "POST", "path": "/plan", "query_string": b"",
             "headers": [(b"host", b"localhost")], "root_path": ""}  # fmt: skip
    said: list[Any] = []

    async def gone(left: bool) -> None:
        messages = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            if not left:
                await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message["type"])

        await app(scope, receive, send)

    asyncio.run(gone(True))
    assert (asked, said) == ([], [])
    asyncio.run(gone(False))
    assert asked == [{}]
    assert said == ["http.response.start", "http.response.body"]


def test_health_does_not_wait_for_questions_at_work():
    began, enough = threading.Event(), threading.Event()

    def busy(_: Any) -> Any:
        began.set()
        end_s = time.monotonic() + GIVE_UP_S
        while not enough.is_set() and time.monotonic() < end_s:
            pass
        return {"early": enough.is_set()}

    working = Site(pages={}, asks={"/plan": busy})

    async def both() -> Any:
        async with client(working) as made:
            asked = asyncio.create_task(made.post("/plan", json={}))
            while not began.is_set():
                await asyncio.sleep(0.01)
            healthy = await made.get("/healthz")
            enough.set()
            assert healthy.status_code == 200
            return (await asked).json()

    assert asyncio.run(both()) == {"early": True}
