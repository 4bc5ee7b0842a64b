"""Who there is around one world: the worlds of its island and the other islands, all silent.

The crew is the trainer's own, with its buckets and its message of sums; only the group it meets in
sends nothing. Numbers alone: nothing here grows with the fleet but that one message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch.distributed import ProcessGroup

from crore.model.private import silent_group
from crore.train.fault.crew import Crew
from crore.train.fault.meeting import Meeting
from crore.train.fault.seat import Seat
from crore.train.islands.settings import Outer
from crore.train.peers import State

WORLDS: Final = "worlds"
"""Axis of messages between the worlds of an island."""
ISLANDS: Final = "islands"
"""Axis of messages between islands."""
ABOVE: Final = (WORLDS, ISLANDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """Where a world stands among others; a world alone by default."""

    world: int = 0
    """In its island."""
    worlds: int = 1
    """Of its island."""
    island: int = 0
    islands: int = 1
    outer: Outer | None = None
    """How the islands join; None where there is one."""


ALONE: Final = Around()


class SilentMeeting(Meeting):
    """A meeting at which all are there, always, and nothing is sent; what is added is counted."""

    def __init__(self, group: ProcessGroup) -> None:
        self._silent = group
        self.changed = False

    def attach(self, state: Callable[[], State], load: Callable[[State], None]) -> None:
        """Nobody is behind."""

    def begin(self, done: int) -> None:
        """Everybody is there."""

    @property
    def met(self) -> bool:
        """Return that they have met."""
        return True

    @property
    def place(self) -> int:
        """This world's place in its island."""
        return self._silent.rank()

    @property
    def size(self) -> int:
        """Worlds of the island."""
        return self._silent.size()

    @property
    def group(self) -> ProcessGroup:
        """The group in which nothing is sent."""
        return self._silent

    @property
    def failed(self) -> bool:
        """Return that it holds."""
        return False

    def fail(self, error: Exception) -> None:
        """Raise what a real meeting would take for a world's death: here it is a fault."""
        raise error

    def commit(self) -> bool:
        """Return that it holds."""
        return True

    def close(self) -> None:
        """Nobody is left."""


def worlds_group(around: Around) -> ProcessGroup:
    """Return the group of one rank of every world of an island, in no world's registry."""
    return silent_group(around.world, around.worlds, f"quorum of island {around.island}")


def islands_group(around: Around) -> ProcessGroup:
    """Return the group of one rank of the leading world of every island, in no registry."""
    return silent_group(around.island, around.islands, "outer")


def axes_around(around: Around) -> dict[str, tuple[str, ...]]:
    """Return the axis of each group above a world, by the group's name."""
    groups = {WORLDS: worlds_group(around), ISLANDS: islands_group(around)}
    return {group.group_name: (axis,) for axis, group in groups.items()}


def crew_of(around: Around) -> Crew | None:
    """Return the trainer's crew of a world's island; None for a world alone in it."""
    if around.worlds == 1:
        return None
    seat = Seat(
        world=around.island * around.worlds + around.world, worlds=around.worlds,
        island=around.island, islands=around.islands,
    )  # fmt: skip
    return Crew(
        seat, tell=_unexpected, asked=lambda: False, meeting=SilentMeeting(worlds_group(around))
    )


def _unexpected(line: str) -> None:
    raise AssertionError(line)
