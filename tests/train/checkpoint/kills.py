"""Kill a save at every touch of the file system, one after the other, and restore after each.

Run as a script with a folder; prints one JSON object per kill.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

from crore.train.checkpoint import Checkpoints

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
MOST = 400
"""More touches than a save makes."""


def tensors(step: int) -> dict[str, torch.Tensor]:
    """Return a state that tells its step."""
    return {"model.w": torch.full((3, 5), float(step)), "optim.w.step": torch.tensor(float(step))}


def save(folder: Path, step: int, touches: int) -> None:
    """Save `step`, and die at the given touch of the file system after staging."""
    left = [touches]

    def watch(event: str, _: tuple[object, ...]) -> None:
        left[0] -= event in TOUCHES
        if left[0] < 0 and event in TOUCHES:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = Checkpoints(folder, keep=1)
    sys.addaudithook(watch)
    checkpoints.save(step, tensors(step), {"step": step})
    checkpoints.wait()


def killed(folder: Path, step: int, touches: int) -> bool:
    """Fork, save there, and return whether it was killed before the end."""
    child = os.fork()
    if child == 0:
        save(folder, step, touches)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def after(folder: Path) -> dict[str, object]:
    """Return what a restart finds."""
    state = tensors(-1)
    checkpoints = Checkpoints(folder, keep=1)
    facts = checkpoints.restore(state)
    found = facts.step if facts else None
    exact = facts is not None and facts.values == {"step": found}
    exact = exact and all(torch.equal(state[n], t) for n, t in tensors(found or 0).items())
    leftovers = [path.name for path in folder.iterdir() if "." in path.name]
    return {"found": found, "exact": exact, "said": checkpoints.poll(), "leftovers": leftovers}


def main(folder: Path) -> None:
    """Kill save after save, each one touch later than the one before."""
    checkpoints = Checkpoints(folder, keep=1)
    torch.set_num_threads(1)
    assert not killed(folder, 1, MOST)
    del checkpoints
    for touches in range(MOST):
        step = touches + 2
        ended = not killed(folder, step, touches)
        print(json.dumps({"step": step, "ended": ended, **after(folder)}))
        if ended:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
