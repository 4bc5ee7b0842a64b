"""What a page weighs, how soon it follows its slider, and what it looks like.

    crore report ten_million -o report.html
    python -m benchmarks.report report.html [docs/pictures]

Needs Chromium and the `dev` extra. Prints bytes by part and the time from slider to paint over all
positions; with a folder, writes a picture per width, scheme and paper there.
"""

from __future__ import annotations

import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

ROUNDS = 3
PAPER = 718
"""Width of an A4 page without its margins, in px."""
Scheme = Literal["light", "dark"]
VIEWS: tuple[tuple[int, int, Scheme], ...] = (
    (1280, 1900, "light"), (1280, 1900, "dark"), (768, 1500, "light"), (375, 1900, "light"),
    (375, 1900, "dark"),
)  # fmt: skip
"""Width, height and colours of a picture."""
DRAG = """async () => {
  const slider = document.getElementById("slider");
  const times = [];
  for (let at = 0; at <= Number(slider.max); at++) {
    const begin = performance.now();
    slider.value = at;
    slider.dispatchEvent(new Event("input"));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    times.push(performance.now() - begin);
  }
  return times;
}"""


def weights(file: Path) -> dict[str, int]:
    """Return the bytes of a page by part, and in all."""
    text = file.read_text(encoding="utf-8")
    [sheet] = re.findall(r'id="sheet">(.*?)</script>', text, re.DOTALL)
    [bundle, own] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    parts = {"sheet": sheet, "Plot": bundle, "script": own, "style": style}
    found = {name: len(part.encode()) for name, part in parts.items()}
    whole = len(text.encode())
    return {**found, "readable page": whole - sum(found.values()), "all": whole}


def opened(
    browser: Browser, file: Path, width: int = 1280, height: int = 900, scheme: Scheme = "light"
) -> Page:
    """Return a page in a window of that size and colour scheme, offline."""
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": height}, color_scheme=scheme
    )
    tab = context.new_page()
    tab.goto(file.resolve().as_uri())
    return tab


def measure(browser: Browser, file: Path) -> None:
    """Print the times over all positions, of the last of some rounds, and the CPU they cost."""
    tab = opened(browser, file)
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    for _ in range(ROUNDS):
        before = thread_s(session)
        times = sorted(tab.evaluate(DRAG))
        cpu_s = thread_s(session) - before
    p95 = times[int(0.95 * len(times))]
    print(f"slider to paint: median {statistics.median(times):.0f} ms, p95 {p95:.0f} ms")
    print(f"CPU of the page's thread: {1e3 * cpu_s / len(times):.1f} ms a move")


def thread_s(session: CDPSession) -> float:
    """Return the CPU seconds of a page's main thread, however busy the machine is."""
    found = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def picture(browser: Browser, file: Path, folder: Path) -> None:
    """Write what the page looks like on screens and on paper."""
    for width, height, scheme in VIEWS:
        tab = opened(browser, file, width, height, scheme)
        tab.wait_for_timeout(500)
        tab.screenshot(path=folder / f"report-{width}-{scheme}.png")
    tab = opened(browser, file, PAPER)
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.wait_for_timeout(500)
    tab.screenshot(path=folder / "report-print.png", full_page=True)


def main() -> None:
    """Measure the page named first, and picture it into the folder named second."""
    file = Path(sys.argv[1])
    for name, size in weights(file).items():
        print(f"{name}: {size / 1e3:.0f} kB")
    with sync_playwright() as play:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        measure(browser, file)
        if len(sys.argv) > 2:
            picture(browser, file, Path(sys.argv[2]))
        browser.close()


if __name__ == "__main__":
    main()
