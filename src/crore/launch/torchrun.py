"""torchrun: a script that every node of a world runs."""

from __future__ import annotations

from typing import Final

from crore import __version__
from crore.launch.export import Export, File
from crore.launch.fleet import (
    lighthouse,
    shell_checks,
    shell_given,
    shell_words,
    start_lighthouses,
)
from crore.launch.launch import Launch
from crore.launch.trainer import (
    HEALTH,
    PORT,
    RESTARTS,
    check_trainer,
    health,
    left_out,
    needs,
    train_words,
)

SCRIPT: Final = "torchrun.sh"
WRITTEN_FOR: Final = "torchrun of torch 2.13"


def torchrun(launch: Launch) -> Export:
    """Return the script; InputError for a plan that `crore train` does not run."""
    check_trainer(launch)
    world = f"WORLD=0 {shell_given(launch)}" if launch.is_fleet else ""
    meet = "RDZV_ENDPOINT=HOST:29500 " if launch.nodes > 1 else ""
    where = f"on each of {launch.nodes:,} nodes of a world, HOST the first" if meet else "here"
    return Export(
        target="torchrun", written_for=WRITTEN_FOR,
        files=(
            File(name=SCRIPT, text=_script(launch), runs=True), *lighthouse(launch), health(launch),
        ),
        world_file=SCRIPT,
        run=(*start_lighthouses(launch), f"{world}{meet}./{SCRIPT}    # {where}"),
        needs=needs(launch),
        leaves_out=(
            *left_out(launch),
            "torchrun ends ranks 30 s after SIGTERM: a checkpoint that takes longer is not saved.",
            *(("torchrun starts no other node: a scheduler, or you, must.",) if meet else ()),
        ),
    )  # fmt: skip


def _script(launch: Launch) -> str:
    nodes, words = launch.nodes, " ".join(train_words(launch)) + shell_words(launch)
    endpoint = "${RDZV_ENDPOINT:-127.0.0.1:0}"
    if nodes > 1:
        endpoint = f"${{RDZV_ENDPOINT:?HOST:{PORT}, HOST the first node of the world}}"
    world, suffix = "", ""
    if launch.is_fleet:
        world = f"world=${{WORLD:?the number of this world, 0 to {launch.worlds - 1}}}\n"
        world += shell_checks(launch)
        suffix = "-$world"
    return f"""\
#!/usr/bin/env bash
# Written by crore {__version__} for {WRITTEN_FOR}: one world of {launch.layout.ranks} ranks of
# {launch.spec.name}, {launch.node_gpus} on each of {nodes} nodes. What follows the script's name
# goes to crore train.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
{world}endpoint={endpoint}
out=${{OUT:-run}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}}

./{HEALTH}
exec "${{PYTHON:-python3}}" -m torch.distributed.run \\
    --nnodes {nodes} --nproc-per-node {launch.node_gpus} --max-restarts {RESTARTS} \\
    --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "{launch.name}{suffix}" \\
    -m {words} --out "$out" "$@"
"""
