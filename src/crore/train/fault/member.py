"""One world of a fleet as a process: `python -m crore.train.fault.member JOB SEAT`."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

from crore.errors import CroreError
from crore.train.fault.orphan import leave_with_parent
from crore.train.fault.seat import Seat
from crore.train.folder import own
from crore.train.job import Job
from crore.train.outcome import Outcome
from crore.train.start import start


def seated(job: Job, seat: Seat) -> Job:
    """Return the job of one world of a fleet's: a folder of its own, and a log for this start."""
    folder = job.folder / seat.name
    return replace(job, seat=seat, folder=folder, log_name=next_log(folder))


def next_log(folder: Path) -> str:
    """Return the name of the log of a world's next start; earlier ones stay as they are."""
    tried = [path.stem.removeprefix("run-") for path in folder.glob("run-*.jsonl")]
    return f"run-{max((int(n) for n in tried if n.isdecimal()), default=-1) + 1}.jsonl"


def take_part(job: Job, *, port: int = 0) -> Outcome:
    """Run a seated job's ranks here, each start once: whoever started the world starts it again."""
    with own(job.folder, fresh=False):
        return start(job, port=port, restarts=0)


def main(words: list[str]) -> int:
    """Run the world whose job and seat two files hold; return the exit code."""
    job, seat = (pickle.loads(Path(word).read_bytes()) for word in words)  # noqa: S301 - our own
    try:
        outcome = take_part(seated(job, seat))
    except CroreError as error:
        outcome = Outcome(reason="failed", message=str(error), exit_code=error.exit_code)
    if outcome.exit_code:
        print(f"crore: world {seat.world}: {outcome.message}", file=sys.stderr)
    return outcome.exit_code


if __name__ == "__main__":
    leave_with_parent()
    sys.exit(main(sys.argv[1:]))
