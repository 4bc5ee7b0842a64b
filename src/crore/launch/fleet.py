"""What joins the worlds of a fleet: flags of `crore train`, and the lighthouses where they meet.

A lighthouse of `crore lighthouse` knows who lives: one for the worlds of each island, and one for
the islands. A world is told of them in the variables named here.
"""

from __future__ import annotations

from typing import Final

from crore import __version__
from crore.launch.export import File
from crore.launch.launch import Launch

LIGHTHOUSE: Final = "lighthouse.sh"
PORT: Final = 29510
"""Where a lighthouse listens, unless told."""
NEAR: Final = "ISLAND_LIGHTHOUSE"
"""Variable: HOST:PORT where the worlds of an island meet."""
FAR: Final = "FLEET_LIGHTHOUSE"
"""Variable: HOST:PORT where the islands meet."""


def lighthouses(launch: Launch) -> dict[str, str]:
    """Return variable -> whose lighthouse it names, for those that a world of this plan needs."""
    found = {}
    if launch.worlds > launch.islands:
        found[NEAR] = "the lighthouse of its island"
    if launch.islands > 1:
        found[FAR] = "the lighthouse of the fleet"
    return found


def fleet_words(launch: Launch, world: str, near: str = "", far: str = "") -> tuple[str, ...]:
    """Return what a world of a fleet adds to the trainer's command; nothing for one world.

    `near` and `far` are the two addresses, in the target's way to name a variable.
    """
    if not launch.is_fleet:
        return ()
    flags = {NEAR: ("--lighthouse", near), FAR: ("--fleet", far)}
    needed = [word for name in lighthouses(launch) for word in flags[name]]
    return ("--world", world, *needed)


def shell_words(launch: Launch) -> str:
    """Return the same for a shell that has `$world` and has checked the rest; blank in front."""
    words = fleet_words(launch, '"$world"', f'"${NEAR}"', f'"${FAR}"')
    return "".join(f" {word}" for word in words)


def shell_checks(launch: Launch) -> str:
    """Return lines of bash that stop with one line where an address is missing."""
    return "".join(
        f': "${{{name}:?HOST:{PORT} of {whose}, which {LIGHTHOUSE} starts}}"\n'
        for name, whose in lighthouses(launch).items()
    )


def shell_given(launch: Launch) -> str:
    """Return the variables as one writes them before a command; blank behind."""
    return "".join(f"{name}=HOST:{PORT} " for name in lighthouses(launch))


def start_lighthouses(launch: Launch) -> tuple[str, ...]:
    """Return how the lighthouses are started, line by line."""
    several = launch.islands > 1
    whose = f"for each of {launch.islands:,} islands, where its" if several else "where all"
    where = {NEAR: f"{whose} worlds reach it", FAR: "for the fleet, where all islands reach it"}
    return tuple(f"./{LIGHTHOUSE}    # one {where[name]}" for name in lighthouses(launch))


def lighthouse(launch: Launch) -> tuple[File, ...]:
    """Return the script that runs one lighthouse; none for one world."""
    if not launch.is_fleet:
        return ()
    return (File(name=LIGHTHOUSE, text=_LIGHTHOUSE, runs=True),)


_LIGHTHOUSE: Final = f"""\
#!/usr/bin/env bash
# Written by crore {__version__}: where the worlds of an island, or the islands of a fleet, meet.
# It runs until it is ended; one that dies is started again. What follows the script's name goes to
# crore lighthouse.
set -u
port=${{PORT:-{PORT}}}
echo "lighthouse at $(hostname):$port"
trap 'trap - TERM INT; kill "$!" 2>/dev/null; wait "$!"; exit 0' TERM INT
while true; do
    "${{PYTHON:-python3}}" -m crore lighthouse --port "$port" "$@" &
    wait "$!"
    code=$?
    [ "$code" = 2 ] && exit 2  # what was asked is wrong, and would be again
    echo "the lighthouse ended with $code: again" >&2
    sleep 1
done
"""
