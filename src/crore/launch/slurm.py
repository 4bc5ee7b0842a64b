"""Slurm: one sbatch file per world, arrays of it for an island.

A world of an array queues again, and is signalled, by its place in the array: plain job numbers
name the array's last world and all of it at once.

Ranks are started by srun itself, one task each: SIGTERM then reaches every rank, which saves and
leaves when its step is done; torchrun in between would end them after 30 s.
"""

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
    PLAN,
    RESTARTS,
    check_trainer,
    health,
    left_out,
    needs,
    train_words,
)

SCRIPT: Final = "world.sbatch"
ISLAND: Final = "island.sh"
WRITTEN_FOR: Final = "Slurm 22.05"
LIMIT: Final = "1-00:00:00"
"""One job's time: a longer run is a chain of requeued jobs."""
SAVE_S: Final = 600
"""Before its limit a job is asked to save and leave."""
MOST_ARRAY: Final = 1001
"""Slurm's default MaxArraySize: an array's numbers are 0 to one less."""


def slurm(launch: Launch) -> Export:
    """Return the batch file; InputError for a plan that `crore train` does not run."""
    check_trainer(launch)
    run: tuple[str, ...] = (f"sbatch {SCRIPT}    # in this folder",)
    files: tuple[File, ...] = (File(name=SCRIPT, text=_script(launch)), health(launch))
    if launch.is_fleet:
        last = launch.islands - 1
        run = (
            *start_lighthouses(launch),
            f"{shell_given(launch)}./{ISLAND} 0    # to {last}, each on the Slurm of its island",
        )
        files = (*files, File(name=ISLAND, text=_island(launch), runs=True), *lighthouse(launch))
    return Export(
        target="slurm", written_for=WRITTEN_FOR, files=files, world_file=SCRIPT, run=run,
        needs=needs(launch),
        leaves_out=(
            *left_out(launch),
            "Account, partition and placement on the network: sbatch --account … --partition …",
            "A node that fails its check ends the job with its name; it is not drained.",
        ),
    )  # fmt: skip


def _script(launch: Launch) -> str:
    cards = "" if launch.accelerator.cpu else f"#SBATCH --gres=gpu:{launch.node_gpus}\n"
    whole = "" if launch.accelerator.cpu else "#SBATCH --exclusive\n"
    log, which = "%x-%j.log", _ONE
    if launch.is_fleet:
        log = "%x-%A-%a.log"
        which = _OF_ARRAY.replace("@ISLAND@", ISLAND) + shell_checks(launch)
    head = f"""\
#!/bin/bash
# Written by crore {__version__} for {WRITTEN_FOR}: one world of {launch.layout.ranks} ranks of
# {launch.spec.name}. Submit it from its folder.
#SBATCH --job-name={launch.name}
#SBATCH --nodes={launch.nodes}
#SBATCH --ntasks-per-node={launch.node_gpus}
{cards}{whole}#SBATCH --time={LIMIT}
#SBATCH --signal=B:USR1@{SAVE_S}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
"""
    words = " ".join(train_words(launch)) + shell_words(launch)
    return head + (
        _BODY.replace("@HEALTH@", HEALTH).replace("@PLAN@", PLAN).replace("@WORDS@", words)
        .replace("@NODES@", str(launch.nodes))
        .replace("@RESTARTS@", str(RESTARTS)).replace("@WHICH@", which)
    )  # fmt: skip


def _island(launch: Launch) -> str:
    """Return the script that submits an island: as many arrays as Slurm's limit asks for."""
    return f"""\
#!/usr/bin/env bash
# Written by crore {__version__} for {WRITTEN_FOR}: submits every world of an island.
# What follows the island's number goes to sbatch.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
island=${{1:?the number of an island, 0 to {launch.islands - 1}}}
shift
[[ $island =~ ^[0-9]{{1,9}}$ ]] && [ "$((10#$island))" -lt {launch.islands} ] || {{
    echo "there is no island $island: they are 0 to {launch.islands - 1}" >&2; exit 2; }}
{shell_checks(launch)}\
worlds={len(launch.worlds_of(0))}
most=${{MAX_ARRAY_SIZE:-{MOST_ARRAY}}}  # of slurm.conf; {MOST_ARRAY} where it is not set
for ((done = 0; done < worlds; done += most)); do
    now=$((worlds - done < most ? worlds - done : most))
    export FIRST_WORLD=$((10#$island * worlds + done))
    sbatch --export=ALL --array="0-$((now - 1))" "$@" {SCRIPT}
done
"""


_ONE: Final = """\
me=$SLURM_JOB_ID
"""
_OF_ARRAY: Final = """\
me=${SLURM_ARRAY_JOB_ID:?submit it with @ISLAND@}_$SLURM_ARRAY_TASK_ID
world=$((${FIRST_WORLD:?submit it with @ISLAND@} + SLURM_ARRAY_TASK_ID))
"""
_BODY: Final = """\
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:?submit it with sbatch}" || exit 2
[ -f @PLAN@ ] || { echo "no @PLAN@ here: submit from the folder of this file" >&2; exit 2; }
@WHICH@out=${OUT:-run}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
export MASTER_ADDR OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Near its limit the job asks its ranks to save and leave, and queues again.
asked=no
trap 'asked=yes; scancel --signal=TERM "$me"' USR1

srun_heard() {  # srun, with the signal above heard meanwhile
    local code
    srun --kill-on-bad-exit=1 "$@" &
    while wait $!; code=$?; [ "$code" -gt 128 ] && kill -0 $! 2>/dev/null; do :; done
    return "$code"
}

srun_heard --nodes=@NODES@ --ntasks=@NODES@ --ntasks-per-node=1 ./@HEALTH@ || exit 1
for attempt in $(seq 0 @RESTARTS@); do
    export MASTER_PORT=$((20000 + (SLURM_JOB_ID * 7 + attempt) % 12000))
    srun_heard "${PYTHON:-python3}" -m @WORDS@ --out "$out"
    code=$?
    if [ "$asked" = yes ]; then scontrol requeue "$me"; exit 0; fi
    case $code in
        0 | 2) exit "$code" ;;  # done; or what was asked is wrong, and would be again
    esac
    echo "attempt $attempt ended with $code: again from the last checkpoint" >&2
done
exit "$code"
"""
