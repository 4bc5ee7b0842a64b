"""The machines of a plan as nested tiers, and which axis of the layout each of them carries."""

from __future__ import annotations

from collections.abc import Iterator

from crore.catalog import Accelerator, Catalog
from crore.io import Record
from crore.plan.resolve import DEFAULT_WAN
from crore.units import format_duration, format_int, format_si


def tiers(plan: Record, catalog: Catalog, wan: str = "") -> list[Record]:
    """Return the tiers of a plan's machines, the GPU first.

    Each has its GPUs, how many there are of it, what a GPU sends through it, and the axes whose
    groups just fit inside it (those of an inner tier are not named again). `wan` is the network
    between islands, the default one where empty.
    """
    part = catalog.accelerator(plan["gpu"])
    rows: list[Record] = []
    held: set[str] = set()
    for name, size, rate, note in _levels(plan, part):
        fits = [axis for axis, extent in _extents(plan) if extent <= size and axis not in held]
        held.update(fits)
        rows.append(_row(name, size, plan["gpus"], rate, ", ".join(fits), note))
    if plan["islands"] > 1:
        outer = plan["outer_step"]
        waited = outer["exposed_s"]
        seen = f"{format_duration(waited)} of it waited for" if waited else "hidden behind them"
        rate = catalog.fabric(wan or DEFAULT_WAN).port_bytes_per_s
        rows[-1]["rate_text"] = format_si(rate, "B/s per GPU")
        rows[-1]["axes"] = f"outer step every {outer['interval']:.0f} steps"
        took = format_duration(outer["outer_s"])
        rows[-1]["note"] = f"{outer['bits']:.0f}-bit outer gradients in {took}, {seen}"
    return rows


def _levels(plan: Record, part: Accelerator) -> Iterator[tuple[str, int, float, str]]:
    """Yield (tier, GPUs, bytes/s of a GPU through it, note), each larger than the last."""
    gpus, world = plan["gpus"], plan["gpus"] // plan["worlds"]
    yield "GPU", 1, part.memory_bytes_per_s, "its own memory"
    last = 1
    for name, size, rate in (
        ("server", part.node_size, part.domain_bytes_per_s or part.host_bytes_per_s),
        ("scale-up domain", part.domain_size, part.domain_bytes_per_s),
    ):
        if last < size and last < gpus:
            last = min(size, gpus)
            yield name, last, rate, ""
    island = gpus // plan["islands"]
    fabric = plan["fabric"] or {}
    words = f"{fabric.get('topology', '')} {fabric.get('switch', fabric.get('name', ''))}".strip()
    if last < world:
        yield "world", world, part.nic_bytes_per_s, words
        last = world
    if last < island:
        yield "island", island, part.nic_bytes_per_s, words
        last = island
    if plan["islands"] > 1:
        yield "fleet", gpus, 0.0, ""


def _extents(plan: Record) -> Iterator[tuple[str, int]]:
    """Yield each axis that is split with the GPUs its groups span.

    Ranks are laid out tensor innermost, then context, then data parallel, pipeline outermost
    (`cost.step_messages.group_of`); expert ranks are data ranks.
    """
    it, extent = plan["layout"], 1
    # Worlds of an island part its replicas among them: what is left of dp is inside a world.
    apart = min(plan["worlds"] // plan["islands"], it["dp"])
    inside = it["dp"] // apart
    for axis, degree in (("tp", it["tp"]), ("cp", it["cp"]), ("dp", inside), ("pp", it["pp"])):
        extent *= degree
        if degree > 1 and not (axis == "dp" and apart > 1):
            yield axis, extent
    if apart > 1:
        yield "dp", extent * apart
    if it["ep"] > 1:
        yield "ep", it["tp"] * it["cp"] * it["ep"]


def _row(name: str, size: int, gpus: int, rate: float, axes: str, note: str) -> Record:
    count = max(gpus // size, 1)
    return {
        "tier": name, "size_text": format_int(size), "count_text": format_int(count),
        "rate_text": format_si(rate, "B/s per GPU") if rate else "unknown", "axes": axes,
        "note": note,
    }  # fmt: skip
