"""The engine's page in a browser: a question typed, its answer streamed."""

from __future__ import annotations

import shutil

import pytest
from tests.serve.served import GIVE_UP_S, served
from tests.serve.tiny_gguf import write_tiny

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
GIVE_UP_MS = 1000 * GIVE_UP_S


@pytest.mark.drill
@pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
def test_a_question_typed_in_a_browser_is_answered(tmp_path):
    from playwright.sync_api import sync_playwright

    model = write_tiny(tmp_path / "tiny.gguf", context=512, endless=True)
    flags = ["--threads", "1", "--max-tokens", "60"]
    with served(str(model), *flags) as server, sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=GIVE_UP_MS
        )
        page = browser.new_page()
        page.set_default_timeout(GIVE_UP_MS)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        box = page.wait_for_selector("textarea")
        assert box is not None
        with page.expect_response("**/v1/chat/completions") as response:
            box.fill("hello")
            box.press("Enter")
        assert response.value.status == 200
        assert response.value.headers["content-type"].startswith("text/event-stream")
        page.wait_for_function("document.body.innerText.includes('60 tokens')")
        page.screenshot(path=tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        elsewhere = [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
        assert elsewhere == []
        browser.close()
