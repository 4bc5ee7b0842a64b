"""A timeline in Chrome's trace format, which Perfetto and chrome://tracing read.

Format: Trace Event Format (Google, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSs
KchNAySU): complete events `X` with `ts` and `dur` in microseconds, metadata events `M` for names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crore.simulate.schedules.draw import STREAMS, Slice

MICROSECONDS = 1e6
DIGITS = 3
"""Nanoseconds are kept."""


def trace_of(
    slices: Iterable[Slice], names: Mapping[int, str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the trace: a process per pipeline rank, named by `names`, and a thread per stream.

    `about` goes into `otherData`, which a viewer shows with the file's details.
    """
    slices = list(slices)
    used = sorted({(it.rank, STREAMS.index(it.stream)) for it in slices})
    events = [*_names(names, used), *(_complete(it) for it in slices)]
    return {"displayTimeUnit": "ms", "otherData": dict(about), "traceEvents": events}


def _names(names: Mapping[int, str], used: Iterable[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for rank, name in names.items():
        yield _meta("process_name", rank, 0, name=name)
        yield _meta("process_sort_index", rank, 0, sort_index=rank)
    for rank, stream in used:
        yield _meta("thread_name", rank, stream, name=STREAMS[stream])
        yield _meta("thread_sort_index", rank, stream, sort_index=stream)


def _meta(kind: str, rank: int, stream: int, **args: object) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": rank, "tid": stream, "args": args}


def _complete(it: Slice) -> dict[str, Any]:
    args = {k: round(v, 9) if isinstance(v, float) else v for k, v in it.about.items()}
    return {
        "ph": "X", "name": it.name, "cat": it.stream, "pid": it.rank,
        "tid": STREAMS.index(it.stream), "ts": round(it.start_s * MICROSECONDS, DIGITS),
        "dur": round(it.length_s * MICROSECONDS, DIGITS), "args": args,
    }  # fmt: skip
