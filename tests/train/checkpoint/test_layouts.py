"""What one layout saves, every other restores bit for bit, optimizer state included."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tests.train.checkpoint.layouts import build, differing, expected, open_checkpoints, shapes
from tests.train.gloo import run

from crore.train.checkpoint import Checkpoints

STEP = 7
FACTS = {"next_sample": 1234, "seed": 5, "rng": [1, 2, 3]}


def save_one(folder):
    """Save from a single process, without torch.distributed."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(STEP, {name: expected(name, STEP) for name in shapes()}, FACTS)
    checkpoints.wait()


def pass_on(folder, layout):
    """Restore under a layout, check, and save the same again as the next checkpoint."""
    state = build(layout)
    checkpoints = open_checkpoints(folder)
    facts = checkpoints.restore(state)
    assert facts is not None
    assert facts.values == FACTS
    wrong = differing(state, STEP)
    own = [f"{name} of rank {dist.get_rank()}" for name in wrong]
    checkpoints.save(facts.step + 1, state, FACTS)
    checkpoints.wait()
    return own, sorted(state), checkpoints.poll()


def chain(tmp_path, links):
    save_one(tmp_path / "c")
    for layout, world in links:
        results = run(pass_on, world, tmp_path, tmp_path / "c", layout)
        assert [wrong for wrong, _, _ in results] == [[]] * world, layout
        assert {name for _, names, _ in results for name in names} == set(shapes()), layout
        assert [messages for _, _, messages in results] == [[]] * world
    state = {name: torch.zeros(shape) for name, shape in shapes().items()}
    facts = Checkpoints(tmp_path / "c").restore(state)
    assert facts is not None
    assert facts.step == STEP + len(links)
    assert differing(state, STEP) == []


def test_fsdp_hands_over_from_four_ranks_to_two(tmp_path):
    chain(tmp_path, [("fsdp", 4), ("fsdp", 2)])


def test_fsdp_hands_over_to_tensor_parallel_and_to_both_at_once(tmp_path):
    chain(tmp_path, [("fsdp", 2), ("tp", 2), ("fsdp_tp", 4), ("hsdp", 4)])


def test_pipeline_stages_hold_other_names_each(tmp_path):
    chain(tmp_path, [("pp", 2), ("pp_fsdp", 4), ("fsdp", 2)])


@pytest.mark.drill
def test_four_ranks_to_two_to_eight(tmp_path):
    chain(tmp_path, [("fsdp", 4), ("fsdp", 2), ("fsdp", 8), ("fsdp_tp", 8), ("pp", 4)])
