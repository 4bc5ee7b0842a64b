from __future__ import annotations

import numpy as np
import pytest
from tests.peers import calculon

from crore.cost import memory, operations, step_time
from crore.cost.layout import SELECTIVE


@pytest.fixture(scope="module")
def space():
    return calculon.space()


@pytest.fixture(scope="module")
def run(space):
    return space.where(calculon.tried(space))


@pytest.fixture(scope="module")
def priced(run):
    """Return (job, step, memory) of everything Calculon runs."""
    job = calculon.job(run)
    ops = operations(job)
    return job, step_time(job, calculon.constants(), ops), memory(job, ops)


@pytest.fixture(scope="module")
def best(run):
    """Return the row of Calculon's best plan."""
    (row,) = np.flatnonzero(calculon.is_best_of_peer(run))
    return row


def test_the_space_is_calculons_to_the_candidate(space, run):
    assert len(space.tp) == calculon.COUNTED
    assert len(run.tp) == calculon.RUN
    fits = calculon.peer_bytes(run) <= calculon.MEMORY_BYTES
    assert np.sum(fits & calculon.net_fits(run)) == calculon.VALID


def test_its_memory_account_is_exact_for_its_best_plan(run, best):
    assert calculon.peer_bytes(run)[best] == calculon.HELD_BYTES


def test_every_candidate_gets_a_time_and_a_memory_of_its_own(priced):
    _, step, held = priced
    for column in (step.step_s, held.peak_bytes):
        assert column.shape == (calculon.RUN,)
        assert np.isfinite(column).all()
        assert (column > 0).all()


def test_the_best_plan_is_calculons(run, priced):
    job, step, held = priced
    row = np.where(calculon.usable(run, job, held), step.step_s, np.inf).argmin()
    plan = {"tp": 4, "pp": 16, "dp": 64, "vpp": 6, "micro_batch": 1, "recompute": SELECTIVE,
            "sharded": 0, "messages": calculon.SEQUENCE,
            "tp_net": 0, "pp_net": 1, "dp_net": 1}  # fmt: skip
    assert {name: getattr(run, name)[row] for name in plan} == plan
    assert step.step_s[row] == pytest.approx(calculon.STEP_S, rel=0.035)


@pytest.mark.parametrize(("part", "within"), [("pp", 0.001), ("dp", 0.02), ("bubble", 0.06)])
def test_parts_defined_alike_agree(priced, best, part, within):
    seconds = np.broadcast_to(priced[1].parts[part], calculon.RUN)[best]
    assert seconds == pytest.approx(calculon.PARTS_S[part], rel=within)


def test_compute_agrees(priced, best):
    ours = priced[1].parts
    seconds = sum(np.broadcast_to(ours[part], calculon.RUN)[best]
                  for part in ("products", "memory passes", "recompute"))  # fmt: skip
    theirs = sum(calculon.PARTS_S[part] for part in ("forward", "backward", "recompute"))
    assert seconds == pytest.approx(theirs, rel=0.03)


def test_memory_of_its_best_plan_agrees_without_context_and_fragmentation(priced, best):
    assert priced[2].allocated_bytes[best] == pytest.approx(calculon.HELD_BYTES, rel=0.02)


def test_networks_have_their_price(run, priced, best):
    """Gathers of 25 MB over 4 GPUs: 130 GB/s and 4.3 us inside a node, 22.5 GB/s and 40 us out."""
    same = [
        getattr(run, name) == getattr(run, name)[best]
        for name in ("search", "micro_batch", "pp_net", "dp_net")
    ]
    (slow,) = np.flatnonzero(np.all(same, axis=0) & (run.tp_net == 1))
    moved = 3 / 4 * 2 * calculon.SEQ * calculon.HIDDEN
    inside, outside = moved / 130e9 + 3 * 10e-6 / 7, moved / 22.5e9 + 2 * 20e-6
    seconds = priced[1].parts["tp"]
    assert seconds[slow] / seconds[best] == pytest.approx(outside / inside, rel=1e-9)
