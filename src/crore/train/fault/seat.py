"""Where one world sits among the others, and whom it asks who else is there."""

from __future__ import annotations

from dataclasses import dataclass

from crore.errors import InputError, UnknownName
from crore.plan.request import LOST_WORLDS, LostWorlds


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """One world's place in a fleet; worlds and islands are numbered from 0."""

    world: int
    """In the whole fleet; one beyond the planned worlds of its island is a hot spare."""
    worlds: int
    """Planned worlds of one island: spares take no samples while so many are there."""
    island: int = 0
    islands: int = 1
    lighthouse: str = ""
    """http://host:port of the island's lighthouse; empty for a world alone in its island."""
    fleet: str = ""
    """The same between islands; empty for one island."""
    lost: LostWorlds = "keep-batch"

    @property
    def spare(self) -> bool:
        """Whether it is beyond the planned worlds."""
        return self.world >= self.worlds * self.islands

    @property
    def makes_up(self) -> bool:
        """Whether samples that went with an island that was away are made up for by others.

        A run is then so many samples; else so many steps.
        """
        return self.islands > 1 and self.lost == "keep-batch"

    @property
    def name(self) -> str:
        """Folder of the world, and its name at the lighthouse: they sort as the numbers do."""
        return folder_of(self.world)


def seat_of(
    world: int,
    *,
    worlds: int,
    islands: int,
    lighthouse: str = "",
    fleet: str = "",
    lost: LostWorlds = "keep-batch",
) -> Seat:
    """Return the seat of a world of a fleet of `worlds` in all, on `islands` islands.

    Islands hold equal numbers of worlds, in order; worlds beyond them are spares of island
    `world % islands`. Raises InputError for numbers that make no fleet, and where an address is
    missing.
    """
    if world < 0:
        raise InputError(f"--world {world}: worlds are numbered from 0")
    each = worlds // islands
    if not lighthouse and (each > 1 or world >= worlds):
        raise InputError(
            f"world {world} is one of {each} of its island: --lighthouse HOST:PORT says where they "
            "meet (crore lighthouse starts one)"
        )
    if islands > 1 and not fleet:
        raise InputError(
            f"world {world} is on one of {islands} islands: --fleet HOST:PORT says where they meet "
            "(crore lighthouse starts one)"
        )
    return Seat(
        world=world, worlds=each, island=island_of(world, worlds, islands), islands=islands,
        lighthouse=address(lighthouse, "--lighthouse"), fleet=address(fleet, "--fleet"), lost=lost,
    )  # fmt: skip


def rule_of(text: str) -> LostWorlds:
    """Return the rule for lost worlds that a text names; UnknownName for none."""
    for rule in LOST_WORLDS:
        if text == rule:
            return rule
    raise UnknownName("rule for lost worlds", text, LOST_WORLDS)


def folder_of(world: int) -> str:
    """Return the name of a world's folder in the run's."""
    return f"world-{world:05d}"


def island_of(world: int, worlds: int, islands: int) -> int:
    """Return the island of a world of `worlds` in all; spares are dealt out to them in turn."""
    return world // (worlds // islands) if world < worlds else (world - worlds) % islands


def address(text: str, flag: str) -> str:
    """Return `host:port` as torchft takes it; raises InputError when it is none."""
    if not text:
        return ""
    host, _, port = text.removeprefix("http://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"{flag} must be HOST:PORT, such as 10.0.0.1:29510, not {text[:60]}")
    return f"http://{host}:{port}"
