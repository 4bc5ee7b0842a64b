"""SkyPilot: one task file, on whatever cloud has the machines."""

from __future__ import annotations

import json
from typing import Final

from crore import __version__
from crore.errors import UnknownName
from crore.launch.export import Export, File
from crore.launch.fleet import FAR, NEAR, lighthouses, shell_checks, shell_words
from crore.launch.fleet import PORT as LIGHTHOUSE_PORT
from crore.launch.launch import Launch
from crore.launch.trainer import (
    HEALTH,
    PORT,
    RESTARTS,
    check_trainer,
    health,
    left_out,
    own_catalog,
    package,
    train_words,
)

TASK: Final = "task.yaml"
LIGHTHOUSE: Final = "lighthouse.yaml"
WRITTEN_FOR: Final = "SkyPilot 0.14"
CARDS: Final = {
    "v100-sxm-32gb": "V100-32GB", "a100-sxm-40gb": "A100", "a100-sxm-80gb": "A100-80GB",
    "h100-sxm": "H100", "h200-sxm": "H200", "b200-sxm": "B200", "rtx-3090": "RTX3090",
    "rtx-4090": "RTX4090", "rtx-5090": "RTX5090", "rtx-6000-ada": "RTX6000-Ada",
    "rtx-a6000": "RTXA6000", "a10": "A10", "l4": "L4", "l40s": "L40S", "t4": "T4",
    "mi300x": "MI300X",
}  # fmt: skip
"""GPU of the catalogue -> SkyPilot's name for it (`sky show-gpus`)."""


def skypilot(launch: Launch) -> Export:
    """Return the task; InputError for a plan that `crore train` does not run.

    Raises UnknownName for a GPU that SkyPilot has no name for here.
    """
    check_trainer(launch)
    if not launch.accelerator.cpu and launch.accelerator.name not in CARDS:
        raise UnknownName("GPU of SkyPilot", launch.accelerator.name, CARDS)
    files: tuple[File, ...] = (File(name=TASK, text=_task(launch)), health(launch))
    start: tuple[str, ...] = ()
    given = ""
    if launch.is_fleet:
        files = (*files, File(name=LIGHTHOUSE, text=_lighthouse(launch)))
        clusters = {NEAR: "island-0", FAR: "fleet"}
        start = tuple(
            f"sky launch -c {clusters[name]} {LIGHTHOUSE}    # {whose}; its HOST: sky status --ip "
            f"{clusters[name]}"
            for name, whose in lighthouses(launch).items()
        )
        given = " --env WORLD=0" + "".join(
            f" --env {name}=HOST:{LIGHTHOUSE_PORT}" for name in lighthouses(launch)
        )
    return Export(
        target="skypilot", written_for=WRITTEN_FOR, files=files, world_file=TASK,
        run=(
            *start,
            f"sky jobs launch {TASK}{given}    # in this folder: it is the task's workdir",
        ),
        needs=(
            "A bucket at /crore-run that outlives the machines: add it under file_mounts.",
            *own_catalog(launch),
        ),
        leaves_out=(
            *left_out(launch),
            "Region, price and network tier are SkyPilot's to choose: add them under resources.",
        ),
    )  # fmt: skip


def _task(launch: Launch) -> str:
    machine = f"cpus: {launch.node_gpus}+"
    if not launch.accelerator.cpu:
        machine = f"accelerators: {CARDS[launch.accelerator.name]}:{launch.node_gpus}"
    envs, checks = "", ""
    if launch.is_fleet:
        names = {"WORLD": "the number of the world", **lighthouses(launch)}
        envs = "envs:\n" + "".join(f"  {name}: null  # {what}\n" for name, what in names.items())
        checks = "world=${WORLD:?the number of the world}\n" + shell_checks(launch)
        checks = checks.replace("\n", "\n  ")
    words = " ".join(train_words(launch)) + shell_words(launch)
    return f"""\
# Written by crore {__version__} for {WRITTEN_FOR}: one world of {launch.layout.ranks} ranks of
# {launch.spec.name}.
name: {json.dumps(launch.name)}
num_nodes: {launch.nodes}
resources:
  {machine}
workdir: .
{envs}setup: |
  pip install torch==2.13.0 '{package(launch)}=={__version__}'
run: |
  set -euo pipefail
  {checks}./{HEALTH}
  torchrun --nnodes {launch.nodes} --nproc-per-node {launch.node_gpus} \\
    --node-rank "$SKYPILOT_NODE_RANK" --max-restarts {RESTARTS} \\
    --master-addr "$(echo "$SKYPILOT_NODE_IPS" | head -n 1)" --master-port {PORT} \\
    -m {words} --out /crore-run/{launch.name} --cache /crore-run/cache
"""


def _lighthouse(launch: Launch) -> str:
    return f"""\
# Written by crore {__version__} for {WRITTEN_FOR}: where the worlds of an island, or the
# islands of a fleet, meet.
name: {json.dumps(f"{launch.name}-lighthouse")}
resources:
  cpus: 2+
  ports: {LIGHTHOUSE_PORT}
setup: |
  pip install torch==2.13.0 '{package(launch)}=={__version__}'
run: |
  python3 -m crore lighthouse --port {LIGHTHOUSE_PORT}
"""
