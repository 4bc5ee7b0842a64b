"""A process killed at any moment leaves a sound checkpoint, and nothing that a save cannot mend."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from tests.train.checkpoint.layouts import open_checkpoints
from tests.train.gloo import run, start
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

ROUNDS, WORLD, ROWS = 12, 2, 999


def test_a_kill_at_every_touch_of_the_disk_leaves_a_sound_checkpoint(tmp_path):
    script = str(Path(__file__).with_name("kills.py"))
    command = [sys.executable, "-W", "error", script, str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert rounds[-1]["ended"]
    assert len(rounds) > 20  # many moments inside a save were tried
    sound = 1
    for one in rounds:
        assert one["exact"], one
        assert one["said"] == [], one
        assert sound <= one["found"] <= one["step"], one
        assert one["found"] in (sound, one["step"]), one
        assert len(one["leftovers"]) <= 1, one  # each start removes what the one before left
        sound = one["found"]
    assert any(".partial" in name for one in rounds for name in one["leftovers"])
    assert any(".removed" in name for one in rounds for name in one["leftovers"])
    assert rounds[-1]["leftovers"] == []


def state(value):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.full((ROWS, 40), float(value))
    return {
        "model.w": distribute_tensor(whole, mesh, [Shard(0)]),
        "optim.w.step": torch.tensor(float(value)),
    }


def resume(folder):
    """Restore and check; return the step, 0 when there is nothing yet."""
    found = state(-1)
    checkpoints = open_checkpoints(folder)
    facts = checkpoints.restore(found)
    assert checkpoints.poll() == []
    step = facts.step if facts else 0
    if facts:
        assert facts.values == {"step": step}
        assert found["model.w"].full_tensor().unique().tolist() == [float(step)]
        assert float(found["optim.w.step"]) == step
    return checkpoints, step


def save_without_end(folder):
    checkpoints, step = resume(folder)
    while True:
        step += 1
        checkpoints.save(step, state(step), {"step": step})
        checkpoints.wait()
        if dist.get_rank() == 0:
            (folder.parent / "promised").write_text(str(step))


def look(folder):
    return resume(folder)[1]


def test_ranks_killed_at_random_moments_resume_from_what_was_promised(tmp_path):
    folder, moment = tmp_path / "c", random.Random(4)  # noqa: S311
    promised, mended = tmp_path / "promised", 0
    for _ in range(ROUNDS):
        before = promised.read_text() if promised.exists() else ""
        with start(save_without_end, WORLD, tmp_path, folder) as (errors, processes):
            end_s = time.monotonic() + 120
            while not promised.exists() or promised.read_text() in ("", before):
                assert not list(errors.glob("*.error")), next(errors.glob("*.error")).read_text()
                assert all(p.is_alive() for p in processes)
                assert time.monotonic() < end_s
                time.sleep(0.01)
            time.sleep(moment.uniform(0.0, 0.1))
        mended += any(path.name.endswith(".partial") for path in folder.iterdir())
    assert mended  # some kills did fall into a save
    steps = run(look, WORLD, tmp_path, folder)
    assert steps[0] == steps[1] >= int(promised.read_text() or 0)
