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
    own = _telling(frames.pop(thread, None))
    frames.pop(watcher, None)
    if own is None or own.f_code.co_name != BACKWARD:
        return _collective(own)
    return next(filter(None, (_collective(_telling(f)) for f in frames.values())), "")


def _telling(frame: FrameType | None) -> FrameType | None:
    """Return the innermost call, from `frame` outwards, that says what the thread does."""
    while frame is not None and any(part in _path(frame) for part in PASSED):
        frame = frame.f_back
    return frame


def _collective(frame: FrameType | None) -> str:
    """Return the name of a call that is in torch.distributed and does no arithmetic."""
    if frame is None or INSIDE not in _path(frame):
        return ""
    local = any(part in _path(frame) for part in LOCAL_WORK)
    return "" if local else frame.f_code.co_name


def _path(frame: FrameType) -> str:
    return frame.f_code.co_filename.replace("\\", "/")
