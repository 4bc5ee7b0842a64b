"""A step of ten million GPUs, packets against fluids, what runs say of it, and quotients.

    python benchmarks/fabric.py [fleet] [packets] [broken] [share] [quotient]

CPU seconds and peaks of memory of the fleet are of a process of its own, imports included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from crore.catalog import load_catalog, read_runs
from crore.cost.constants import fitted_constants
from crore.cost.step_time import step_time
from crore.errors import InputError
from crore.plan.published import jobs_of
from crore.simulate.fabric.filling import fill_s, unloaded_s
from crore.simulate.fabric.fluid import finish_s
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Ints, Network, random_failures
from crore.simulate.fabric.packets import Packets, send
from crore.simulate.fabric.patterns import Flows, exchange_of, incast_of, permutation_of, ring_of
from crore.simulate.fabric.quotient import max_min_by_classes, quotient_of
from crore.simulate.fabric.routes import Paths, every_path, hashed_paths, routes_of, spray
from crore.simulate.fabric.trees import Tree, folded_clos

FLEETS: Final = ((1, 2_171), (20, 2_171), (100, 2_171), (1_000, 2_171), (20, 21_710))
"""Islands and worlds of 4,608 GPUs: ten million, and at last a hundred."""
FLEET: Final = """
from crore.simulate.fabric import FleetStep, fleet_rates, fleet_step
fleet = FleetStep(islands={islands}, worlds={worlds}, world_gpus=4608, domain_gpus=72,
    compute_s=8.0, world_bytes=40e9, nic_bytes_per_s=100e9, planes=8, leaf_gpus=512,
    uplinks={uplinks})
print(f"| {{fleet.gpus:,}} | {{fleet.islands:,}} | {{fleet.uplinks}} ", end="")
"""
STEP: Final = """
found = fleet_step(fleet)
causes = ", ".join(f"{cause} {share:.0%}" for cause, share in found.slowed_by().items() if share)
times = " | ".join(f"{s:.2f} s" for s in (found.ideal_s, found.quantile_s(0.5), found.step_s))
print(f"| {times} | {causes} ", end="")
"""
RATES: Final = """
found = fleet_rates(fleet)
shares = (0.0, 0.001, 0.01, 0.1, 0.5)
rates = " | ".join(f"{found.quantile(share) / 1e9:.2f}" for share in shares)
print(f"| {rates} | {len(found.flows):,} ", end="")
"""
MB: Final = 2**20
SIZES: Final = (MB // 4, 4 * MB, 64 * MB)
PLANE: Final = 12.5e9
"""Bytes per second of a link: 100 Gb/s."""
HALLS: Final = {
    "two tiers": Tree(down=(8, 8), up=(1, 8), nic_bytes_per_s=PLANE),
    "two tiers, 4:1": Tree(down=(8, 8), up=(1, 2), nic_bytes_per_s=PLANE),
    "three tiers": Tree(down=(4, 4, 4), up=(1, 4, 4), nic_bytes_per_s=PLANE),
    "two tiers, 4 planes": Tree(down=(8, 8), up=(1, 8), planes=4, nic_bytes_per_s=4 * PLANE),
}
MORE_HALLS: Final = {
    "two tiers, 4:1, 4 planes": Tree(down=(8, 8), up=(1, 2), planes=4, nic_bytes_per_s=4 * PLANE),
    "two tiers, 8 planes": Tree(down=(8, 8), up=(1, 8), planes=8, nic_bytes_per_s=8 * PLANE),
    "three tiers, 4 planes": Tree(
        down=(4, 4, 4), up=(1, 4, 4), planes=4, nic_bytes_per_s=4 * PLANE
    ),
    "two tiers, 4 planes, 256 hosts": Tree(
        down=(16, 16), up=(1, 16), planes=4, nic_bytes_per_s=4 * PLANE
    ),
}
PATTERNS: Final[dict[str, Callable[[int], Flows]]] = {
    "permutation": lambda hosts: permutation_of(np.arange(hosts), 3),
    "ring over leaves": lambda hosts: ring_of(np.arange(hosts), 8),
}
DRAWN: Final[tuple[Callable[[Ints, int], Flows], ...]] = (
    permutation_of,
    lambda hosts, seed: permutation_of(hosts[: len(hosts) // 2], seed),
    lambda hosts, seed: ring_of(np.sort(hosts), 1 + seed),
    lambda hosts, _: incast_of(hosts[:16]),
    lambda hosts, _: exchange_of(hosts[:6]),
)
MODES: Final = ("in turn", "random", "hash", "16 hashes")
RUNS: Final = Path(__file__).resolve().parent.parent / "tests/published/runs.jsonl"
MOVED: Final = 0.01
FEW: Final = 64
"""Hosts beyond which fewer cases are drawn."""


def fleets() -> None:
    """Print what a step of each fleet takes, and the rates of all its flows."""
    head = "GPUs | islands | uplinks of a leaf's 512 GPUs |"
    print(f"| {head} undisturbed | median island | slowest | most delayed by | CPU s | MB |")
    print("|---" * 9 + "|")
    _rows(STEP)
    print(f"\n| {head} slowest GB/s | 0.1 % | 1 % | 10 % | median | classes | CPU s | MB |")
    print("|---" * 11 + "|")
    _rows(RATES)


def _rows(then: str) -> None:
    """Run each fleet in a process of its own."""
    for uplinks in (512, 128):
        for islands, worlds in FLEETS:
            script = FLEET.format(islands=islands, worlds=worlds, uplinks=uplinks) + then
            process = subprocess.Popen(
                [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            said = process.stdout.read()
            _, _, used = os.wait4(process.pid, 0)
            spent = used.ru_utime + used.ru_stime
            print(f"{said}| {spent:.2f} | {used.ru_maxrss / 1024:.0f} |", flush=True)


def packets() -> None:
    """Print time of packets over that of the fluid, and the efficiency of each way to spread."""
    print("| network | pattern | message | in turn, filled | " + " | ".join(MODES) + " |")
    print("|---|---|---|---|" + "---|" * len(MODES))
    share: dict[str, list[float]] = {mode: [] for mode in MODES}
    for title, tree in HALLS.items():
        network = folded_clos(tree)
        for pattern, flows_of in PATTERNS.items():
            flows = flows_of(network.endpoints)
            for size in SIZES:
                found = {mode: ratios(network, flows, size, mode) for mode in MODES}
                cells = " | ".join(f"{found[mode][0]:.3f}" for mode in MODES)
                print(f"| {title} | {pattern} | {size / MB:g} MB | {found['in turn'][1]:.3f} "
                      f"| {cells} |", flush=True)  # fmt: skip
                if size >= 4 * MB:
                    for mode in MODES:
                        share[mode].append(1 / found[mode][0])
    print()
    for mode in MODES:
        print(f"efficiency from 4 MB, {mode}: {min(share[mode]):.3f} to {max(share[mode]):.3f}")
    print(f"cost/ assumes {fitted_constants().nic_share:.3f} of an adapter, however flows spread")


def broken() -> None:
    """Print packets in turn over the fluid, least and most, on patterns and failures drawn."""
    print("| network | dead cables | cases | filled | hops alone |")
    print("|---|---|---|---|---|")
    for title, tree in (HALLS | MORE_HALLS).items():
        whole = folded_clos(tree)
        for share in (0.0, 0.01, 0.05, 0.15):
            found = []
            for network, flows, seed in _drawn(whole, share):
                # A way round dead cables may go up twice, and close a circle of links.
                with suppress(InputError):
                    found.append(ratios(network, flows, 4 * MB, "in turn", seed))
            hops, filled = (f"{min(of):.3f} to {max(of):.3f}" for of in zip(*found, strict=True))
            print(f"| {title} | {share:.0%} | {len(found)} | {filled} | {hops} |", flush=True)


def _drawn(whole: Network, share: float) -> Iterator[tuple[Network, Flows, int]]:
    """Yield networks with that share of cables dead, patterns of which something arrives, seeds."""
    for seed in range(4 if whole.endpoints > FEW else 8):
        hosts = np.random.default_rng(seed).permutation(whole.endpoints).astype(np.int64)
        network = random_failures(whole, share, seed)
        for pattern in DRAWN:
            flows = pattern(hosts, seed)
            if len(every_path(network, flows).flow):
                yield network, flows, seed


def ratios(
    network: Network, flows: Flows, size: int, mode: str, seed: int = 0
) -> tuple[float, float]:
    """Return the last packet's time over that of a fluid spread evenly over all paths.

    Twice: hops added to the fluid, and the fill of its pipeline.
    """
    every = every_path(network, flows)
    turns = Packets(message_bytes=size, seed=seed)
    sizes = np.full(len(flows), float(size))
    fluid_s = finish_s(routes_of(network, flows, every), network.bytes_per_s, sizes)
    routed = np.isfinite(fluid_s)
    sent = replace(turns, mode="random") if mode == "random" else turns
    last_s = send(network, flows, _paths(network, flows, every, mode), sent)[routed].max()
    added_s = (unloaded_s(network, flows, every, turns), fill_s(network, flows, every, turns))
    hops, filled = (float(last_s / (fluid_s + more_s)[routed].max()) for more_s in added_s)
    return hops, filled


def _paths(network: Network, flows: Flows, every: Paths, mode: str) -> Paths:
    planes = int(network.plane.max()) + 1
    connections = {"hash": planes, "16 hashes": 16 * planes}.get(mode)
    return every if connections is None else hashed_paths(network, flows, 1, connections)


def shares() -> None:
    """Print how well published step times are met, whatever share of the network is assumed."""
    runs = [run for run in read_runs(RUNS) if run.scorable]
    job = jobs_of(runs, load_catalog())
    measured_s = np.array([run.step_time_s for run in runs], dtype=float)
    families = np.array([run.family for run in runs])
    fitted = fitted_constants()
    fitted_s = step_time(job, fitted).step_s
    print("| share of the network | mean of families' median errors | runs it moves by over 1 % |")
    print("|---|---|---|")
    for share in (1.0, fitted.nic_share, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3):
        step_s = step_time(job, replace(fitted, nic_share=share)).step_s
        off = np.abs(step_s / measured_s - 1)
        mean = np.mean([np.median(off[families == family]) for family in np.unique(families)])
        moved = int((np.abs(step_s / fitted_s - 1) > MOVED).sum())
        print(f"| {share:.3f} | {mean:.2%} | {moved} of {len(runs):,} |")


def quotients() -> None:
    """Print how many classes flows and links fall into, and what filling takes either way."""
    print("| hosts | pattern | dead cables | flow classes | link classes | worst difference "
          "| all flows | classes |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for tree in (Tree(down=(16, 32), up=(1, 8)), Tree(down=(32, 64), up=(1, 16))):
        hosts, under = tree.endpoints, tree.down[0]
        every = np.arange(hosts)
        shifted = Flows(source=every, target=(every + under * (1 + every % 5)) % hosts)
        patterns = {
            "ring over leaves": ring_of(every, under),
            "shifted permutation": shifted,
            "random permutation": permutation_of(every, 1),
        }
        for title, flows in patterns.items():
            for share in (0.0, 0.01, 0.1):
                network = random_failures(folded_clos(tree), share, 7)
                print(f"| {hosts:,} | {title} {_classes(network, flows)}", flush=True)


def _classes(network: Network, flows: Flows) -> str:
    routes = spray(network, flows)
    dead = int((network.bytes_per_s == 0).sum()) // 2
    before = time.process_time()
    brute = max_min(routes, network.bytes_per_s)
    between = time.process_time()
    small = max_min_by_classes(routes, network.bytes_per_s)
    after = time.process_time()
    found = quotient_of(routes, network.bytes_per_s)
    worst = np.max(np.abs(small - brute) / np.where(brute > 0, brute, 1.0))
    return (
        f"| {dead} | {len(flows):,} to {len(found.flows):,} | {network.links:,} to "
        f"{len(found.links):,} | {worst:.1e} | {between - before:.3f} s | {after - between:.3f} s |"
    )


def main(arguments: list[str]) -> None:
    """Print the tables asked for; all without arguments."""
    tables = {
        "fleet": fleets,
        "packets": packets,
        "broken": broken,
        "share": shares,
        "quotient": quotients,
    }
    for name in arguments or tables:
        print(f"\n{name}\n")
        tables[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
