"""Slurm: one sbatch file per world, an array of it for an island.

Ranks are started by srun itself, one task each: SIGTERM then reaches every rank, which saves and
leaves when its step is done; torchrun in between would end them after 30 s.
"""

from __future__ import annotations

from typing import Final

from crore import __version__
from crore.launch.export import Export, File
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
WRITTEN_FOR: Final = "Slurm 22.05"
LIMIT: Final = "1-00:00:00"
"""One job's time: a longer run is a chain of requeued jobs."""
SAVE_S: Final = 600
"""Before its limit a job is asked to save and leave."""
MOST_ARRAY: Final = 1001
"""Slurm's default MaxArraySize: numbers of an array end below it."""


def slurm(launch: Launch) -> Export:
    """Return the batch file; InputError for a plan that `crore train` does not run."""
    check_trainer(launch)
    run: tuple[str, ...] = (f"sbatch {SCRIPT}    # in this folder",)
    more: tuple[str, ...] = ()
    if launch.is_fleet:
        first = launch.worlds_of(0)
        run = (
            f"sbatch --array={first.start}-{first.stop - 1} {SCRIPT}    # island 0, on its Slurm",
            "# The other islands' ranges of worlds are in map.json.",
        )
        if launch.worlds >= MOST_ARRAY:
            more = (
                f"MaxArraySize above {launch.worlds:,} in slurm.conf ({MOST_ARRAY:,} if unset).",
            )
    return Export(
        target="slurm", written_for=WRITTEN_FOR,
        files=(File(name=SCRIPT, text=_script(launch)), health(launch)), world_file=SCRIPT,
        run=run, needs=(*needs(launch), *more),
        leaves_out=(
            *left_out(launch),
            "Account, partition and placement on the network: sbatch --account … --partition …",
            "A node that fails its check ends the job with its name; it is not drained.",
        ),
    )  # fmt: skip


def _script(launch: Launch) -> str:
    cards = "" if launch.accelerator.cpu else f"#SBATCH --gres=gpu:{launch.node_gpus}\n"
    whole = "" if launch.accelerator.cpu else "#SBATCH --exclusive\n"
    log, suffix = "%x-%j.log", ""
    if launch.is_fleet:
        log, suffix = "%x-%A-%a.log", "-world-${SLURM_ARRAY_TASK_ID:?submit with --array}"
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
    words = " ".join(train_words(launch))
    return head + (
        _BODY.replace("@HEALTH@", HEALTH).replace("@PLAN@", PLAN).replace("@WORDS@", words)
        .replace("@NODES@", str(launch.nodes)).replace("@OUT@", f"run{suffix}")
        .replace("@RESTARTS@", str(RESTARTS))
    )  # fmt: skip


_BODY: Final = """\
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:?submit it with sbatch}" || exit 2
[ -f @PLAN@ ] || { echo "no @PLAN@ here: submit from the folder of this file" >&2; exit 2; }
out=${OUT:-@OUT@}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
export MASTER_ADDR OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Near its limit the job asks its ranks to save and leave, and queues again.
asked=no
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

srun_heard() {  # srun, with the signal above heard meanwhile
    local code
    srun --kill-on-bad-exit=1 "$@" &
    while wait $!; code=$?; [ "$code" -gt 128 ] && kill -0 $! 2>/dev/null; do :; done
    return "$code"
}

srun_heard --nodes=@NODES@ --ntasks=@NODES@ --ntasks-per-node=1 ./@HEALTH@ || exit 1
for attempt in $(seq 0 @RESTARTS@); do
    export MASTER_PORT=$((20000 + (SLURM_JOB_ID * 7 + attempt) % 20000))
    srun_heard "${PYTHON:-python3}" -m @WORDS@ --out "$out"
    code=$?
    if [ "$asked" = yes ]; then scontrol requeue "$SLURM_JOB_ID"; exit 0; fi
    case $code in
        0 | 2) exit "$code" ;;  # done; or what was asked is wrong, and would be again
    esac
    echo "attempt $attempt ended with $code: again from the last checkpoint" >&2
done
exit "$code"
"""
