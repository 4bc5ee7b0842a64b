"""Progress on a terminal, for a search that takes longer than a second."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

QUIET_S = 1.0
"""A search this short shows nothing, and does not pay for the progress bar's import."""


@contextlib.contextmanager
def watching() -> Iterator[Callable[[float, Any], None] | None]:
    """Give a search something to report to on a terminal: share done, best found."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar()
    try:
        yield bar.show
    finally:
        bar.close()


@contextlib.contextmanager
def steps(title: str = "") -> Iterator[Callable[[float, str], None] | None]:
    """Give long work something to report to on a terminal: share done, what is at work."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        before = f"{title}: " if title else ""
        yield lambda share, text: progress.update(task, completed=share, description=before + text)


class _Bar:
    def __init__(self) -> None:
        self._started = time.monotonic()
        self._progress: Any = None
        self._task: Any = None

    def show(self, share: float, found: Any) -> None:
        """Draw the share of cells done and the best run time so far."""
        if time.monotonic() - self._started < QUIET_S:
            return
        if self._progress is None:
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task("search", total=1.0)
            self._progress.start()
        best = found.ranked
        days = f"best so far {best[0].run_s / 86_400:.4g} days" if best else "nothing fits yet"
        self._progress.update(self._task, completed=share, description=days)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
