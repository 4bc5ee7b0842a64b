"""What starting a fleet costs: one GPU's groups, a store's rendezvous, gloo's pairs, a lighthouse.

    python benchmarks/startup.py [groups] [store] [pairs] [lighthouse]

Without words, all, in some five minutes; the lighthouse needs the extra `ft`. Prints a table of
each; Ctrl-C ends what was started. A store's client looks up the name of the address it is given:
where that is slow, run it in a network of loopback alone
(`unshare -rn sh -c 'ip link set lo up; python benchmarks/startup.py'`).
"""

from __future__ import annotations

import os

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import multiprocessing
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from crore.model.split import Split
from crore.rehearse.crowd import PhaseCost
from crore.rehearse.lighthouse import watch
from crore.rehearse.place import Fleet
from crore.rehearse.rendezvous import meeting
from crore.rehearse.startup import StartCost, start_cost

REPEATS = 3
SPLITS = {
    64: Split(pp=2, dp_replicate=2, dp_shard=2, cp=2, tp=4, ep=4),
    1_024: Split(pp=4, dp_replicate=2, dp_shard=8, cp=2, tp=8, ep=8),
    8_192: Split(pp=16, dp_replicate=2, dp_shard=8, cp=4, tp=8, ep=8),
    100_000: Split(pp=10, dp_replicate=5, dp_shard=25, cp=10, tp=8, ep=8),
}
FLEETS = (
    (1, 1, 64), (1, 1, 1_024), (1, 1, 8_192), (1, 12, 8_192), (4, 122, 8_192), (20, 1_221, 8_192),
    (1_221, 1_221, 8_192), (20, 156_251, 64), (1, 1, 100_000), (20, 100, 100_000),
)  # fmt: skip
"""(Islands, worlds, ranks of a world.)"""
STORES = (64, 512, 2_000, 8_192)
READ_ALL = 512
"""The most ranks whose addresses all read: they are ranks squared."""
GLOOS = (16, 32, 64)
FILES = Path("/proc/self/fd")
PATIENCE = timedelta(seconds=120)
LIGHTHOUSES = (62, 256, 1_221)


def groups() -> None:
    """Print what the groups of one GPU cost, each in a process of its own."""
    print("| GPUs | islands | worlds | ranks | CPU s | of it above the world, ms | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for islands, worlds, ranks in FLEETS:
        fleet = Fleet(islands=islands, worlds=worlds, ranks=ranks)
        costs = sorted((_apart(fleet) for _ in range(REPEATS)), key=lambda cost: cost.cpu_s)
        cost = costs[REPEATS // 2]
        print(
            f"| {fleet.gpus:,} | {islands:,} | {worlds:,} | {ranks:,} | {cost.cpu_s:.2f} "
            f"| {1e3 * cost.above_cpu_s:.2f} | {cost.peak_bytes / 1e6:.0f} |",
            flush=True,
        )


def _apart(fleet: Fleet) -> StartCost:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_groups_of, (fleet,))


def _groups_of(fleet: Fleet) -> StartCost:
    split = SPLITS[fleet.ranks]
    return start_cost(fleet, fleet.gpus * 3 // 4, split, experts=True, tied=True)


def store() -> None:
    """Print what each phase of a rendezvous costs the clients and their store."""
    _head("ranks")
    for ranks in STORES:
        _rows(ranks, meeting(ranks, everyone=ranks <= READ_ALL, told=_told))


def pairs() -> None:
    """Print what it costs ranks, here threads, to connect every pair, as gloo does."""
    print("| ranks | lazily | wall s | sockets and other files of a rank |")
    print("|---|---|---|---|")
    for ranks in GLOOS:
        for lazy in ("0", "1"):
            os.environ["TORCH_GLOO_LAZY_INIT"] = lazy
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                wall_s, files = pool.apply(_gloo_of, (ranks,))
            print(f"| {ranks} | {'yes' if lazy == '1' else 'no'} | {wall_s:.2f} | {files} |")


def _gloo_of(ranks: int) -> tuple[float, int]:
    from torch.distributed import HashStore, ProcessGroupGloo

    store, before = HashStore(), len(list(FILES.iterdir()))
    began_s = time.monotonic()
    with ThreadPoolExecutor(ranks) as pool:
        made = pool.map(lambda rank: ProcessGroupGloo(store, rank, ranks, PATIENCE), range(ranks))
        kept = list(made)
    wall_s = time.monotonic() - began_s
    return wall_s, (len(list(FILES.iterdir())) - before) // len(kept)


def lighthouse() -> None:
    """Print what each phase costs the members and their lighthouse."""
    _head("members")
    for members in LIGHTHOUSES:
        _rows(members, watch(members, told=_told).phases)


def _head(who: str) -> None:
    print(f"| {who} | phase | wall s | server CPU s | server CPU us each | server MB |")
    print("|---|---|---|---|---|---|")


def _rows(clients: int, costs: dict[str, PhaseCost]) -> None:
    for name, cost in costs.items():
        print(
            f"| {clients:,} | {name} | {cost.wall_s:.2f} | {cost.server_cpu_s:.3f} "
            f"| {1e6 * cost.server_cpu_s / clients:.0f} | {cost.server_bytes / 1e6:.1f} |",
            flush=True,
        )


def _told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


PARTS = {"groups": groups, "store": store, "pairs": pairs, "lighthouse": lighthouse}


def main() -> int:
    """Measure the parts that were asked for; returns the exit code."""
    asked = sys.argv[1:] or list(PARTS)
    if unknown := [word for word in asked if word not in PARTS]:
        print(f"{unknown[0][:40]!r} is none of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        for word in asked:
            print(f"\n{word}", flush=True)
            PARTS[word]()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
