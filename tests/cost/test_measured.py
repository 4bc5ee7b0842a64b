"""On a measured machine the operation list is priced by its tables, exact at their points."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machines import SIZES, calibration

from crore.catalog.accelerators import calibrated
from crore.cost import fitted_constants, machine_of, memory, operations, step_time
from crore.cost.measured import MeasuredPricer, Table
from crore.cost.operations import Gemm, Operation
from crore.errors import InputError

C = fitted_constants()


@pytest.fixture(scope="session")
def measured_job(make_job, catalog):
    """Return a builder of jobs on the invented machine, shared by so many processes."""

    def _make(model="nano-1m", *, processes=1, seed=0, seq_len=256.0, precision="fp32", **fields):
        row = catalog.accelerator("cpu-2core")
        accelerator = calibrated(row, calibration(seed), processes)
        job = make_job(
            model, stack="crore", gpu="cpu-2core", precision="fp32", seq_len=seq_len,
            **{"global_batch": 16.0, "micro_batch": 4, "dp_shard": processes, "zero": 3} | fields,
        )  # fmt: skip
        return replace(job, machine=machine_of(accelerator, precision))

    return _make


def grid(axes):
    """Yield the points of a table in its order."""
    return itertools.product(*axes)


@given(
    axes=st.lists(
        st.lists(st.floats(1, 1e9), min_size=1, max_size=4, unique=True).map(sorted),
        min_size=1, max_size=3,
    ),
    data=st.data(),
)  # fmt: skip
def test_a_table_is_exact_at_its_points_and_inside_its_values_between_them(axes, data):
    axes = [[a * (1 + 1e-3) ** i for i, a in enumerate(axis)] for axis in axes]
    points = list(grid(axes))
    values = data.draw(st.lists(st.floats(1e-9, 1e3), min_size=len(points), max_size=len(points)))
    table = Table(axes, values)
    for point, value in zip(points, values, strict=True):
        assert float(table.at(*point)) == pytest.approx(value, rel=1e-6)
    anywhere = [data.draw(st.floats(1, 1e9)) for _ in axes]
    assert min(values) * (1 - 1e-6) <= float(table.at(*anywhere)) <= max(values) * (1 + 1e-6)


@given(st.floats(1, 1e8), st.floats(1.0, 4.0))
def test_a_table_that_rises_is_read_as_rising(size, factor):
    table = Table((SIZES,), [1e-9 * s**0.7 + 1e-6 for s in SIZES])
    assert table.at(size * factor) >= table.at(size) * (1 - 1e-12)


def test_products_take_what_was_measured_forward_and_both_gradients(measured_job):
    job = measured_job()
    pricer, rates = MeasuredPricer(job, C), job.machine.measured.setting.products["fp32"]
    launch_s = job.machine.measured.setting.launch_s
    for index, (m, n, k) in enumerate(grid((rates.m, rates.n, rates.k))):
        op = Operation(name="p", kind="gemm", gemm=Gemm(m=m, n=n, k=k), launches=1.0)
        assert float(pricer.seconds(op)) == pytest.approx(rates.forward_s[index] + launch_s)
        both = rates.input_s[index] + rates.weight_s[index]
        back = replace(op, phase="backward", launches=2.0)
        assert float(pricer.seconds(back)) == pytest.approx(both + 2 * launch_s)


@given(st.floats(1, 64), st.floats(1, 4096))
def test_a_product_beyond_the_grid_grows_with_its_work(measured_job, times, n):
    pricer = MeasuredPricer(measured_job(), C)
    edge = Operation(name="p", kind="gemm", gemm=Gemm(m=2048.0, n=n, k=512.0))
    beyond = replace(edge, gemm=Gemm(m=2048.0 * times, n=n, k=512.0))
    assert pricer.seconds(beyond) == pytest.approx(times * pricer.seconds(edge))


def test_messages_passes_and_updates_take_what_was_measured(measured_job):
    job = measured_job(processes=2)
    setting, pricer = job.machine.measured.setting, MeasuredPricer(measured_job(processes=2), C)
    for index, size in enumerate(SIZES):
        # Lists count 16-bit elements: in 32 bits a buffer has twice as many bytes.
        sent = Operation(name="s", kind="collective", collective="all_gather", axis="dp_shard",
                         message_bytes=size / 2)  # fmt: skip
        assert float(pricer.seconds(sent)) == pytest.approx(
            setting.messages["all_gather"].seconds[index]
        )
        passed = Operation(name="a", kind="memory", bytes_moved=3 * size / 2, tensor_bytes=size / 2)
        assert float(pricer.seconds(passed)) == pytest.approx(setting.passes["map"].hot_s[index])
        update = Operation(name="o", kind="optimizer", bytes_moved=28 * size)
        assert float(pricer.seconds(update)) == pytest.approx(setting.optimizer.seconds[index])


def test_nothing_overlaps_on_a_cpu(measured_job):
    """The parts are every operation's seconds, and the step is their sum."""
    job = measured_job("nano-5m", processes=2)
    pricer, time = MeasuredPricer(job, C), step_time(job, C)
    passes = float(job.micro_batches)
    total = sum(
        float(pricer.seconds(op) * op.count) * (1 if op.repeat == "step" else passes)
        for op in operations(job)
    )
    assert float(time.step_s) == pytest.approx(total)
    assert float(time.step_s) == pytest.approx(sum(float(v) for v in time.parts.values()))


def test_every_part_of_a_whole_step_takes_its_factor_longer(measured_job):
    job = measured_job("nano-5m", processes=2)
    found = job.machine.measured
    slower = replace(found, setting=replace(found.setting, step_factor=1.25))
    whole = replace(job, machine=replace(job.machine, measured=slower))
    assert float(step_time(whole, C).step_s) == pytest.approx(
        1.25 * float(step_time(job, C).step_s)
    )


def test_more_processes_than_were_measured_take_their_share_longer(measured_job):
    job = measured_job(processes=4, dp_shard=2)
    shared = replace(job.machine, measured=replace(job.machine.measured, crowding=1.0))
    crowded, free = (step_time(j, C).step_s for j in (job, replace(job, machine=shared)))
    assert float(crowded) == pytest.approx(2 * float(free))


def test_a_format_that_was_not_measured_is_refused(measured_job):
    job = measured_job()
    wide = replace(job, machine=replace(job.machine, element_scale=1.0))
    with pytest.raises(InputError, match="measured in fp32, not in bf16"):
        step_time(wide, C)


def test_candidates_are_priced_side_by_side(measured_job):
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    together = measured_job("nano-5m", micro_batch=1)
    together = replace(together, layout=replace(together.layout, micro_batch=sizes))
    column = np.asarray(step_time(together, C).step_s)
    held = np.asarray(memory(together, operations(together)).peak_bytes)
    for index, size in enumerate(sizes):
        job = measured_job("nano-5m", micro_batch=size)
        assert column[index] == pytest.approx(float(step_time(job, C).step_s))
        assert held[index] == pytest.approx(float(memory(job, operations(job)).peak_bytes))


def test_a_card_keeps_its_host_beside_it(make_job, catalog):
    found = replace(calibration(), device="cuda")
    card = calibrated(catalog.accelerator("rtx-3090"), found)
    job = make_job("nano-1m", stack="crore", gpu="rtx-3090", precision="bf16", seq_len=256.0)
    job = replace(job, machine=machine_of(card, "fp32"))
    pricer = MeasuredPricer(job, C)
    assert pricer.constants.host_launch_s == (found.settings[0].launch_s,)
    assert pricer.constants.compute_hides == C.compute_hides
    parts = memory(job, operations(job)).parts
    assert parts["context"] == 2e9
    assert parts["fragmentation"] > 0
