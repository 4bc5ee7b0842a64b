"""Plans and jobs whose steps are drawn."""

from __future__ import annotations

import pytest

from crore.catalog import load_catalog
from crore.cost import Job, Layout, machine_of, shape_of, stack_of
from crore.cost.schedules import schedule_code
from crore.plan import PlanRequest, make_plan, plan_record, read_mission


@pytest.fixture(scope="session")
def make_job():
    """Return a builder of one job: model, stack, schedule, micro-batches per rank, layout."""
    catalog = load_catalog()

    def _make(model="llama3-70b", *, stack="torchtitan", schedule="1f1b", rounds=32.0, **layout):
        split = {"pp": 8, "dp_shard": 8, "tp": 4, "sequence_parallel": 1} | layout
        return Job(
            shape=shape_of(catalog.model(model)), stack=stack_of(stack),
            machine=machine_of(catalog.accelerator("h100-sxm"), "bf16"), seq_len=4096.0,
            layout=Layout(
                schedule=float(schedule_code(schedule)),
                **{axis: float(degree) for axis, degree in split.items()},
            ),
            global_batch=rounds * split["dp_shard"],
        )  # fmt: skip

    return _make


SMALL = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**11, seq_len=4096, global_batch=256,
    stack="torchtitan", fix={"pp": 4, "tp": 2},
)  # fmt: skip


@pytest.fixture(scope="session")
def records():
    """Return the plan file's record of some plans by name."""
    requests = {
        name: PlanRequest(**(read_mission(name) or {}))
        for name in ("llama3_405b", "deepseek_v3", "ten_million")
    }
    return {
        name: plan_record(make_plan(request))
        for name, request in (requests | {"llama3-8b on 64": SMALL}).items()
    }
