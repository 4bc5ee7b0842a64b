"""`--profile`: a few steps as a Chrome trace per rank, for https://ui.perfetto.dev."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from crore.io import write_text

WARM_UP: Final = 5
"""Steps of a process before the first that is traced: allocators, autotuning, compilation."""
STEPS: Final = 3
"""Steps that are traced."""
MAX_BYTES: Final = 20_000_000
"""Largest trace that is written."""
_SILENT: Final = "99"
"""Kineto's log level: it announces on stderr that it starts and stops, else."""


class Profiler:
    """Traces steps first..first + steps - 1 of this process, then writes one file.

    `first` counts from 1; `device` is `cpu` or `cuda…`. Nothing is imported or paid before the
    first traced step. A run that ends earlier writes what it has.
    """

    def __init__(
        self, folder: Path, rank: int, device: str, first: int = WARM_UP + 1, steps: int = STEPS
    ) -> None:
        self.path = folder / f"trace_rank{rank}.json"
        self._device = device
        self._traced = range(first, first + steps)
        self._seen = 0
        self._profile: Any = None

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Surround one step of the loop; `number` is what the trace calls it."""
        self._seen += 1
        if self._seen not in self._traced:
            yield
            return
        from torch.profiler import record_function

        if self._profile is None:
            self._profile = _started(self._device)
        with record_function(f"step {number}"):
            yield
        if self._seen == self._traced[-1]:
            self.close()

    def close(self) -> None:
        """Write the trace, if steps of one are held. Raises `InputError` where it cannot."""
        if self._profile is None:
            return
        profile, self._profile = self._profile, None
        profile.stop()
        _write(profile, self.path)


def _started(device: str) -> Any:
    os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU]
    if device.startswith("cuda"):
        kinds.append(ProfilerActivity.CUDA)
    made = profile(activities=kinds, record_shapes=True)
    made.start()
    return made


def _write(profile: Any, path: Path) -> None:
    """Export beside `path`, cut to size, and put in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    try:
        profile.export_chrome_trace(str(draft))
        text = draft.read_text(encoding="utf-8")
    finally:
        draft.unlink(missing_ok=True)
    write_text(path, text if len(text.encode()) <= MAX_BYTES else shortened(text, MAX_BYTES))


def shortened(text: str, most_bytes: int) -> str:
    """Return a Chrome trace without its shortest events, of at most `most_bytes`.

    What has no duration (names, marks, arrows) goes last of all but what names rows. `dropped` says
    how many events are missing.
    """
    trace = json.loads(text)
    events = trace.pop("traceEvents")
    order = sorted(range(len(events)), key=lambda i: _worth(events[i]), reverse=True)
    head = len(json.dumps(trace)) + 64
    sizes = [len(json.dumps(event, separators=(",", ":"))) + 1 for event in events]
    kept, room = set(), most_bytes - head
    for i in order:
        if sizes[i] > room:
            break
        kept.add(i)
        room -= sizes[i]
    trace["dropped"] = len(events) - len(kept)
    trace["traceEvents"] = [event for i, event in enumerate(events) if i in kept]
    return json.dumps(trace, separators=(",", ":"))


def _worth(event: dict[str, Any]) -> tuple[bool, float]:
    """Return what decides whether an event stays: names of rows first, then the longest."""
    return event.get("ph") == "M", float(event.get("dur", 0.0))
