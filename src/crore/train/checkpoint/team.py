"""The ranks that save and restore together: each does its part, and all learn how it went."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import torch.distributed as dist

from crore.errors import CroreError

T = TypeVar("T")
R = TypeVar("R")

_PLACE: Final = re.compile(r"^\[[^\]]*\] ")
"""Where in gloo's source an error was raised: no help to a reader."""


class RankFailed(CroreError):
    """Some rank could not do its part; the message is the error of the lowest that failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome(Generic[T]):
    """What a rank's part came to, in a form that travels to other ranks."""

    value: T | None = None
    """What it returned."""
    error: CroreError | None = None
    """What it raised, None where it returned."""

    def get(self) -> T:
        """Return the value or raise a copy of the error, on whatever rank this is.

        A copy, because an error that knows its frames, from which it can be reached, would keep
        the staged tensors until the next garbage collection.
        """
        if self.error is not None:
            raise copy.copy(self.error)
        return self.value  # type: ignore[return-value]  # None only where T allows it


class Team:
    """The ranks of one gloo group, or this process alone where `group` is None.

    A part that raises on one rank raises on every rank, so that none waits for another: the
    `CroreError` itself, or `RankFailed` with the first line of any other error. `RankFailed` too
    when a rank is gone.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.rank = dist.get_rank(group) if group else 0
        self.size = dist.get_world_size(group) if group else 1

    def share(self, make: Callable[[], R]) -> R:
        """Return on every rank what `make` returns on rank 0, the only one to call it."""
        return self._broadcast(_outcome(make) if self.rank == 0 else _Outcome()).get()

    def reduce(self, part: Callable[[], T], combine: Callable[[list[T]], R]) -> R:
        """Return on every rank what `combine` makes on rank 0 of every rank's `part`."""
        parts = self._gather(_outcome(part))
        return self.share(lambda: combine([one.get() for one in parts]))

    def exchange(self, part: Callable[[], T], deal: Callable[[list[T]], list[R]]) -> R:
        """Return on each rank its own of what `deal` makes on rank 0, one entry per rank."""
        parts = self._gather(_outcome(part))
        return self._scatter(self._hands(parts, deal) if self.rank == 0 else []).get()

    def _hands(
        self, parts: list[_Outcome[T]], deal: Callable[[list[T]], list[R]]
    ) -> list[_Outcome[R]]:
        dealt = _outcome(lambda: deal([one.get() for one in parts]))
        if dealt.error is not None:
            return [_Outcome(error=dealt.error)] * self.size
        return [_Outcome(value=hand) for hand in dealt.get()]

    def _gather(self, value: T) -> list[T]:
        """Return every rank's value on rank 0, an empty list elsewhere."""
        if self._group is None:
            return [value]
        values = [value] * self.size if self.rank == 0 else None
        with _in_touch():
            dist.gather_object(value, values, group=self._group, group_dst=0)
        return values or []

    def _broadcast(self, value: T) -> T:
        box = [value]
        if self._group is not None:
            with _in_touch():
                dist.broadcast_object_list(box, group=self._group, group_src=0)
        return box[0]

    def _scatter(self, values: list[T]) -> T:
        if self._group is None:
            return values[0]
        box: list[T] = [values[0]] if values else [None]  # type: ignore[list-item]
        with _in_touch():
            dist.scatter_object_list(box, values or None, group=self._group, group_src=0)
        return box[0]


def first_line(error: BaseException) -> str:
    """Return what an error says on one short line: a system error in the system's own words."""
    if isinstance(error, CroreError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:120]


@contextmanager
def _in_touch() -> Iterator[None]:
    """Turn the failure of a collective into one line."""
    try:
        yield
    except RuntimeError as error:
        said = _PLACE.sub("", (str(error).splitlines() or [""])[0])
        raise RankFailed(f"a rank is gone or stuck ({said[:80]})") from error


def _outcome(part: Callable[[], T]) -> _Outcome[T]:
    """Run one rank's part."""
    try:
        return _Outcome(value=part())
    except CroreError as error:
        return _Outcome(error=error.with_traceback(None))
    except Exception as error:
        return _Outcome(error=RankFailed(first_line(error)))
