"""A browser, and pages in it that ask for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.report.small_sheet import Sheet, small_sheet

from crore.plan import PlanRequest
from crore.report.html import page
from crore.report.sheet import sheet_of
from crore.report.sweeping import sweep_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
Open = Callable[..., "Page"]
GIVE_UP_MS = 120_000
"""No page takes longer, however busy the machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, for the tests of a file.

    Not longer: playwright's loop runs in this thread meanwhile, and asyncio.run in a later file
    would find it there.
    """
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=GIVE_UP_MS
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def real_sheet() -> Sheet:
    """The sheet of a small, cheap mission, as `crore report` heads it."""
    request = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**12)
    head = {"schema": "crore.report/1", "crore": "0", "command": "crore report", "reproduce": []}
    return {**head, **sheet_of(sweep_record(request), "mission")}


@pytest.fixture(scope="session")
def small_file(tmp_path_factory) -> Path:
    """The page of the small sheet on disk."""
    return write(tmp_path_factory.mktemp("small"), small_sheet())


@pytest.fixture(scope="session")
def real_file(tmp_path_factory, real_sheet) -> Path:
    """The page of the real sheet on disk."""
    return write(tmp_path_factory.mktemp("real"), real_sheet)


def write(folder: Path, sheet: Sheet) -> Path:
    """Write the page of a sheet and return where."""
    file = folder / "report.html"
    file.write_text(page(sheet), encoding="utf-8")
    return file


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Open a file or an address, offline unless told otherwise.

    When the test ends: nothing was asked of anywhere else, and the console holds no error.
    """
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    errors: list[str] = []

    def opened(
        where: Path | str, hash_: str = "", *, offline: bool = True, errors_expected: bool = False,
        **more: Any,
    ) -> Page:  # fmt: skip
        home = where.as_uri() if isinstance(where, Path) else where
        context = browser.new_context(offline=offline, **more)
        context.set_default_timeout(GIVE_UP_MS)
        contexts.append(context)
        tab = context.new_page()
        if not errors_expected:
            tab.on("console", lambda one: errors.extend([one.text] * (one.type == "error")))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda one: None if one.url.startswith(home) else asked.append(one.url))
        tab.goto(home + hash_)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert asked == []
    assert errors == []
