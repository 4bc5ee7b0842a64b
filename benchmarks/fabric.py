"""A step of ten million GPUs, packets against fluids, and how small quotients are.

    python benchmarks/fabric.py [fleet] [packets] [quotient]

CPU seconds and peaks of memory of the fleet are of a process of its own, imports included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from crore.cost.constants import fitted_constants
from crore.simulate.fabric.fluid import finish_s
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Network, random_failures
from crore.simulate.fabric.packets import Packets, send, unloaded_s
from crore.simulate.fabric.patterns import Flows, permutation_of, ring_of
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
PATTERNS: Final[dict[str, Callable[[int], Flows]]] = {
    "permutation": lambda hosts: permutation_of(np.arange(hosts), 3),
    "ring over leaves": lambda hosts: ring_of(np.arange(hosts), 8),
}
MODES: Final = ("in turn", "random", "hash", "16 hashes")


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
    print("| network | pattern | message | " + " | ".join(MODES) + " |")
    print("|---|---|---|" + "---|" * len(MODES))
    share: dict[str, list[float]] = {mode: [] for mode in MODES}
    for title, tree in HALLS.items():
        network = folded_clos(tree)
        for pattern, flows_of in PATTERNS.items():
            flows = flows_of(network.endpoints)
            for size in SIZES:
                ratios = {mode: ratio(network, flows, size, mode) for mode in MODES}
                cells = " | ".join(f"{ratios[mode]:.3f}" for mode in MODES)
                print(f"| {title} | {pattern} | {size / MB:g} MB | {cells} |", flush=True)
                if size >= 4 * MB:
                    for mode in MODES:
                        share[mode].append(1 / ratios[mode])
    print()
    for mode in MODES:
        print(f"efficiency from 4 MB, {mode}: {min(share[mode]):.3f} to {max(share[mode]):.3f}")
    print(f"cost/ assumes {fitted_constants().nic_share:.3f} of an adapter, however flows spread")


def ratio(network: Network, flows: Flows, size: int, mode: str) -> float:
    """Return the last packet's time over that of a fluid spread evenly over all paths."""
    every = every_path(network, flows)
    sent = Packets(message_bytes=size, mode="random" if mode == "random" else "round-robin")
    sizes = np.full(len(flows), float(size))
    fluid_s = finish_s(routes_of(network, flows, every), network.bytes_per_s, sizes).max()
    last_s = send(network, flows, _paths(network, flows, every, mode), sent).max()
    return float(last_s / (fluid_s + unloaded_s(network, every, sent)))


def _paths(network: Network, flows: Flows, every: Paths, mode: str) -> Paths:
    connections = {"hash": 1, "16 hashes": 16}.get(mode)
    return every if connections is None else hashed_paths(network, flows, 1, connections)


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
    tables = {"fleet": fleets, "packets": packets, "quotient": quotients}
    for name in arguments or tables:
        print(f"\n{name}\n")
        tables[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
