"""A run that is asked to end finishes its step, writes a checkpoint and leaves."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

ASKING: Final = (signal.SIGTERM, signal.SIGINT)


class LeaveRequest:
    """Whether this process was asked to end, by SIGTERM or Ctrl-C, while the context is open.

    A second Ctrl-C leaves at once, by `KeyboardInterrupt`. Ranks are asked one by one, so the
    trainer combines their answers before it acts. Off the main thread, where Python takes no
    signals, nobody ever asks.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """True from the first signal on."""
        return self._asked is not None

    @property
    def reason(self) -> str:
        """Name of the first signal; empty while there was none."""
        return self._asked.name if self._asked else ""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._take) for s in ASKING}
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
        if self._asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = self._asked or signal.Signals(number)
