"""The same page with a server behind it: typed values are asked, and a dead server is said so."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest
from tests.report.small_sheet import NASTY, point, small_sheet
from tests.report.test_page import MOVE, text

from crore.report.html import page

LIVE = {"url": "plan", "models": ["small", "large"], "gpus": ["h100-sxm", "rtx-3090"]}


class Planner(ThreadingHTTPServer):
    """A server of the page that answers with invented points and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[dict[str, Any]] = []
        self.text = page(small_sheet(live=LIVE))
        self.hold = threading.Event()
        self.hold.set()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the point asked for, or one line that says why not."""
        self.asked.append(body)
        if "compare" in body:
            table = {"caption": "days", "head": ["", "A", "B"], "rows": [["days", "30 d", "3 d"]]}
            return {"table": table, "causes": ["more GPUs: 27 d less"]}
        if not body["gpus"].replace(",", "").isdigit():
            return {"error": f"GPUs must be a number, not {body['gpus']}"}
        return {**point(int(body["gpus"].replace(",", ""))), "scenario": body}


class Answer(BaseHTTPRequestHandler):
    """One request to a `Planner`."""

    server: Planner

    def do_GET(self) -> None:
        """Send the page."""
        self.reply("text/html; charset=utf-8", self.server.text)

    def do_POST(self) -> None:
        """Send an answer, when it is time."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answer(body)
        self.server.hold.wait(60)
        with suppress(ConnectionError):  # the page no longer waits for it
            self.reply("application/json", json.dumps(answer))

    def reply(self, kind: str, text: str) -> None:
        """Send a text."""
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Planner]:
    """Serve until told otherwise."""
    with Planner() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def planner() -> Iterator[Planner]:
    """A server that lives as long as the test."""
    with serving() as server:
        yield server


def home(server: Planner) -> str:
    """Return the server's address."""
    return f"http://127.0.0.1:{server.server_port}/"


def enter(tab, key, typed):
    """Type into a field and leave it."""
    tab.locator(f"#{key}").fill(typed)
    tab.locator(f"#{key}").press("Enter")


def wait(tab, key, words):
    """Wait until an element says the words."""
    said = "([key, words]) => document.getElementById(key).textContent.includes(words)"
    tab.wait_for_function(said, arg=[key, words])


def test_what_is_typed_is_asked_and_shown(planner, visit):
    tab = visit(home(planner), offline=False)
    enter(tab, "gpus", "12,345")
    wait(tab, "count", "12,345 GPUs")
    assert planner.asked[-1] == {**small_sheet()["scenario"], "gpus": "12,345"}
    assert "$12,345" in text(tab, "facts")
    assert "12%2C345" in tab.evaluate("location.hash")
    tab.evaluate(MOVE, 30)
    assert text(tab, "count") == "1,000 GPUs"


def test_what_was_typed_and_pinned_comes_back_with_the_address(planner, visit):
    tab = visit(home(planner), offline=False)
    tab.locator("#pin").click()
    for key, typed in (("gpus", "12,345"), ("model", "large; b=1,c")):
        enter(tab, key, typed)
        tab.wait_for_function("(word) => location.hash.includes(word)", arg=quote(typed))
        tab.locator("#pin").click()
    assert tab.locator("#pins table").first.locator("thead th").count() == 3
    address = tab.evaluate("location.hash")
    assert len(address) <= 2_000
    planner.asked.clear()
    again = visit(home(planner), address, offline=False)
    whole = "() => document.querySelector('#pins table')?.tHead.rows[0].cells.length === 4"
    again.wait_for_function(whole)
    asked = [body for body in planner.asked if "compare" not in body]
    base = small_sheet()["scenario"]
    for body in ({**base, "gpus": "12,345"}, {**base, "model": "large; b=1,c", "gpus": "12,345"}):
        assert body in asked
    assert text(again, "pins") == text(tab, "pins")
    again.wait_for_function("(at) => location.hash === at", arg=address)


def test_pins_of_an_address_that_break_or_are_too_many_change_nothing(planner, visit):
    broken = "#s=1;gpus=16;pins=16,gpus%3D%25zz,x,gpus%3D20,gpus%3D21,gpus%3D22,gpus%3D23"
    tab = visit(home(planner), broken, offline=False)
    heads = "[...document.querySelectorAll('#pins table')[0]?.tHead.rows[0].cells ?? []]"
    tab.wait_for_function(f"() => {heads}.length >= 3")
    tab.wait_for_timeout(300)
    shown = tab.evaluate(f"{heads}.map((cell) => cell.textContent.split(' ')[0])")
    assert shown[:3] == ["", "16", "20"]
    assert len(shown) <= 5
    assert not tab.locator("#dead").is_visible()


def test_another_model_is_asked_also_while_the_slider_moves(planner, visit):
    tab = visit(home(planner), offline=False)
    enter(tab, "model", "large")
    tab.locator("#other").wait_for(state="visible")
    assert planner.asked[-1]["model"] == "large"
    tab.evaluate(MOVE, 40)
    wait(tab, "count", "10,000 GPUs")
    assert planner.asked[-1] == {**small_sheet()["scenario"], "model": "large", "gpus": "10000"}
    assert tab.locator("#model").input_value() == "large"
    assert "model=large" in tab.evaluate("location.hash")


def test_an_address_off_the_grid_is_asked(planner, visit):
    tab = visit(home(planner), "#s=1;model=large;gpu=h100-sxm;gpus=777;tokens=2T", offline=False)
    wait(tab, "count", "777 GPUs")
    assert planner.asked == [
        {"model": "large", "gpu": "h100-sxm", "gpus": "777", "tokens": "2T"},
    ]


def test_a_refusal_is_one_line_of_text(planner, visit):
    tab = visit(home(planner), offline=False)
    enter(tab, "gpus", NASTY)
    wait(tab, "refused", "GPUs must be a number")
    assert NASTY in text(tab, "refused")
    assert tab.title() == "A small sheet"
    assert text(tab, "count") == "16 GPUs"
    enter(tab, "gpus", "17")
    wait(tab, "count", "17 GPUs")
    assert not tab.locator("#refused").is_visible()


def test_an_answer_that_comes_after_the_slider_moved_is_dropped(planner, visit):
    tab = visit(home(planner), offline=False)
    planner.hold.clear()
    enter(tab, "gpus", "12345")
    wait(tab, "status", "Asking")
    tab.evaluate(MOVE, 30)
    planner.hold.set()
    tab.wait_for_timeout(300)
    assert text(tab, "count") == "1,000 GPUs"


def test_pinned_points_get_their_causes_from_the_server(planner, visit):
    tab = visit(home(planner), offline=False)
    for position in (30, 40):
        tab.evaluate(MOVE, position)
        tab.locator("#pin").click()
    wait(tab, "causes", "27 d less")
    first, second = planner.asked[-1]["compare"]
    assert first.startswith("#s=1;")
    assert "gpus=10000" in second


def test_a_server_that_dies_is_said_so_and_the_grid_goes_on(visit):
    with serving() as server:
        tab = visit(home(server), offline=False, errors_expected=True)
        enter(tab, "model", "large")
        tab.locator("#other").wait_for(state="visible")
        server.hold.clear()
        tab.evaluate(MOVE, 40)
    tab.wait_for_timeout(400)
    tab.evaluate(MOVE, 50)
    tab.locator("#dead").wait_for(state="visible")
    assert "does not answer" in text(tab, "dead")
    for position, count in ((50, "100,000 GPUs"), (20, "100 GPUs")):
        tab.evaluate(MOVE, position)
        assert text(tab, "count") == count
    assert tab.locator("#dead").is_visible()
    assert tab.locator("#model").input_value() == "small"
