"""A run that is asked to end finishes its step, writes a checkpoint and leaves."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Final, Self

ASKING: Final = (signal.SIGTERM, signal.SIGINT)
AGAIN_S: Final = 1.0
"""A Ctrl-C this soon after another signal is the same one: launchers pass on what all ranks got."""


class LeaveRequest:
    """Whether this process was asked to end, by SIGTERM or Ctrl-C, while the context is open.

    A second Ctrl-C leaves at once, by `KeyboardInterrupt`. Ranks are asked one by one, so the
    trainer combines their answers before it acts. Off the main thread, where Python takes no
    signals, nobody ever asks. What came while a launcher had the signals blocked counts too.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._asked_s = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> signal.Signals | None:
        """The first signal; None while there was none."""
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._take) for s in ASKING}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that Python did not set and cannot set again
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        now_s = time.monotonic()
        if self._asked is None:
            self._asked, self._asked_s = signal.Signals(number), now_s
        elif number == signal.SIGINT and now_s - self._asked_s > AGAIN_S:
            raise KeyboardInterrupt
