"""In which collective a thread is, read off its Python stack from outside."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

INSIDE: Final = "/torch/distributed/"
PASSED: Final = (
    "/torch/_ops.py",
    "/torch/_library/",
    "/torch/utils/",
    "/torch/autograd/function.py",
    "/torch/distributed/c10d_logger.py",
    "/contextlib.py",
)
"""Files that only pass a call on to the one that says what it is."""
LOCAL_WORK: Final = ("/torch/distributed/tensor/_dispatch.py",)
"""Files of torch.distributed that run a rank's own arithmetic."""
BACKWARD: Final = "_engine_run_backward"
"""While a thread is in it, its collectives may run in threads of the autograd engine."""


def collective_of(thread: int, watcher: int) -> str:
    """Return the function of torch.distributed that a thread is in; empty when it is in none.

    `thread` and `watcher` are thread identifiers; the watcher's own stack is never looked at.
    """
    frames = sys._current_frames()  # noqa: SLF001 - documented, and the only way in
    own = frames.pop(thread, None)
    frames.pop(watcher, None)
    found = _innermost(own)
    if found or own is None or own.f_code.co_name != BACKWARD:
        return found
    return next(filter(None, map(_innermost, frames.values())), "")


def _innermost(frame: FrameType | None) -> str:
    """Return the name of the innermost call that says what it is, if it is a collective's."""
    while frame is not None:
        path = frame.f_code.co_filename.replace("\\", "/")
        if not any(part in path for part in PASSED):
            inside = INSIDE in path and not any(part in path for part in LOCAL_WORK)
            return frame.f_code.co_name if inside else ""
        frame = frame.f_back
    return ""
