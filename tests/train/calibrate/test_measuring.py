"""Measuring: what is timed, how samples become a number, and how workers end."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

import pytest
import torch

from crore.catalog.calibration import Curve
from crore.errors import InputError
from crore.train.calibrate import compute, host
from crore.train.calibrate.clock import Clock, lower_quartile
from crore.train.calibrate.run import (
    Host,
    _ask,
    counts,
    merged,
    setting_of,
    spread,
    tasks_of,
    workers,
)
from crore.train.calibrate.worker import Task
from crore.train.live import LiveBytes

MACHINE = Host(device="cpu", name="any", cores=4, memory_bytes=1e9, formats=("fp32",))
CLOCK = Clock(device="cpu", budget_s=0.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Grids of one or two small points, and one thread."""
    torch.set_num_threads(1)
    monkeypatch.setitem(compute.GRIDS, ("cpu", "fp32"), ((8, 16), (8,), (8,)))
    monkeypatch.setitem(compute.SEQUENCES, ("cpu", "fp32"), (16,))
    monkeypatch.setitem(compute.HEAD_DIMS, "cpu", (8,))
    monkeypatch.setitem(compute.HEAD_ROWS, "cpu", 32)
    monkeypatch.setitem(compute.POOL_BYTES, "cpu", 2**16)
    monkeypatch.setitem(compute.WEIGHTS, "cpu", (64,))
    monkeypatch.setattr(compute, "TENSOR_BYTES", (1024, 4096))


def test_a_quarter_of_the_samples_is_as_fast_as_the_one_that_counts():
    assert lower_quartile([5.0, 1.0, 9.0, 2.0, 7.0, 3.0, 8.0, 4.0]) == 3.0
    assert lower_quartile([4.0]) == 4.0


@pytest.mark.parametrize("of", list(compute.GRIDS), ids="-".join)
def test_the_pool_holds_every_matrix_of_the_grid(of, monkeypatch):
    monkeypatch.undo()
    m, n, k = (axis[-1] for axis in compute.GRIDS[of])
    assert max(m * n, m * k, n * k) <= compute.POOL_BYTES[of[0]] // 4


def test_every_measurement_has_a_number_above_zero_for_every_point():
    products = compute.measure_products(CLOCK, "fp32")
    assert (products.m, len(products.weight_s)) == ((8.0, 16.0), 2)
    attention = compute.measure_attention(CLOCK, "fp32")
    passes = [compute.measure_passes(CLOCK, kind) for kind in ("map", "exp")]
    curve = compute.measure_optimizer(CLOCK)
    numbers = [*products.forward_s, *products.input_s, *products.weight_s, *attention.forward_s,
               *attention.backward_s, *curve.seconds, host.measure_launch(CLOCK)]  # fmt: skip
    for made in passes:
        assert len(made.size) == len(made.hot_s) == len(made.cold_s) == 2
        numbers += [*made.hot_s, *made.cold_s]
    assert min(numbers) > 0


def test_a_step_waits_for_the_slowest_process_and_a_rate_is_the_best_round():
    one, two = (
        Curve(size=(1.0, 2.0), seconds=(3.0, 4.0)),
        Curve(size=(1.0, 2.0), seconds=(5.0, 2.0)),
    )
    assert merged([one, two], max) == Curve(size=(1.0, 2.0), seconds=(5.0, 4.0))
    assert merged([{"a": one}, {"a": two}], min)["a"].seconds == (3.0, 2.0)
    answers = {
        (1, what, of): [value, value]
        for what, of, value in [
            ("launch", "", 1e-6), ("products", "fp32", one), ("attention", "fp32", one),
            ("passes", "map", one), ("passes", "exp", two), ("optimizer", "", one),
        ]
    }  # fmt: skip
    made = setting_of(MACHINE, 1, answers)
    assert (made.processes, made.threads, made.messages) == (1, 4, {})
    answered: dict[str, Any] = {"map": one, "exp": two}
    assert made.passes == answered


def test_rounds_disagree_by_the_median_of_their_points_and_axes_do_not_count():
    one, two = (Curve(size=(1.0, 2.0, 3.0), seconds=s) for s in ((2.0, 3.0, 4.0), (2.2, 3.3, 8.0)))
    assert spread([[one, two]]) == pytest.approx(0.1)
    assert spread([[{"a": one}, {"a": two}], [(1.0,), (1.0,)]]) == pytest.approx(0.1)
    assert spread([[0.0, 1.0], [2.0, 2.0]]) == 0.0


def test_one_process_takes_all_cores_and_several_share_them():
    assert counts(MACHINE, None) == (1, 2)
    assert counts(MACHINE, 4) == (1, 2, 4)
    assert counts(MACHINE, 1) == (1,)
    for processes, threads in ((1, 4), (2, 2), (4, 1)):
        assert {task.threads for task in tasks_of(MACHINE, processes, "")} == {threads}
    assert "messages" not in {task.what for task in tasks_of(MACHINE, 1, "")}
    alone = replace(MACHINE, cores=1)
    assert counts(alone, None) == (1, 2)
    assert {task.threads for task in tasks_of(alone, 2, "")} == {1}
    cards = replace(MACHINE, device="cuda", cores=1)
    assert counts(cards, None) == (1,)
    with pytest.raises(InputError, match="--processes is 1 to 4"):
        counts(MACHINE, 5)


def test_two_workers_measure_messages_together_and_say_what_went_wrong(tmp_path):
    with workers(2) as (pipes, (resident, version)):
        assert resident > 5e7
        assert version == torch.__version__
        found = _ask(pipes, Task("messages", "", 2, 1, str(tmp_path / "meet")))
        assert found[0].keys() == found[1].keys() == {
            "all_gather", "reduce_scatter", "all_reduce", "all_to_all", "p2p"
        }  # fmt: skip
        assert all(min(curve.seconds) > 0 for curve in found[0].values())
        beside = _ask(pipes, Task("shard", "", 2, 1, str(tmp_path / "meet")))
        assert all(0 <= seconds < 1 for seconds in beside)
        with pytest.raises(KeyError):
            _ask(pipes[:1], Task("nothing", "", 1, 1, ""))
    assert not multiprocessing.active_children()


def test_an_interrupt_ends_the_workers():
    def interrupted():
        with workers(1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not multiprocessing.active_children()


def test_live_bytes_follow_tensors_from_birth_to_death():
    held = torch.zeros(100)
    live = LiveBytes([held])
    with live:
        a = held + 1
        b = a.view(10, 10)
        assert live.now_bytes == 800
        c = a * 2
        assert live.now_bytes == 1200
        del a, b
        assert live.now_bytes == 800
        c.untyped_storage().resize_(0)
        assert live.now_bytes == 400
    assert live.peak_bytes == 1200
    del c
    assert torch.zeros(3).untyped_storage().resize_(24).nbytes() == 24


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
def test_a_card_is_measured_by_the_same_code():
    clock = Clock(device="cuda", budget_s=0.01)
    assert min(compute.measure_products(clock, "bf16").forward_s) > 0
    assert host.measure_launch(clock) > 0
