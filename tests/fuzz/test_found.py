"""What random cases found once, case by case."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from crore.errors import MAX_MESSAGE_CHARS, Infeasible, InputError
from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.objectives import MARGINS
from crore.plan.resolve import MOST_PLANS, resolve
from crore.plan.search import Ground, search

FLEET = PlanRequest(model="llama3-8b", gpu="gb200-nvl72", gpus=65_537, stack="crore")
SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=64)


def test_a_network_without_ports_joins_no_sites():
    with pytest.raises(InputError, match="single-node joins no sites"):
        make_plan(replace(FLEET, wan="single-node"))


def test_a_cell_that_no_schedule_fits_is_no_warning():
    pins = {"vpp": 3, "dp_replicate": 8, "dp_shard": 4096}
    with pytest.raises(Infeasible, match="no layout of grok1-314b"):
        make_plan(PlanRequest(model="grok1-314b", cluster="eight-3090", fix=pins))


def test_chunks_that_no_schedule_of_the_stack_takes_are_named():
    """Seed 2277: nothing was left to ask which rule took it."""
    pins: dict[str, int | str] = {
        "vpp": 3, "dp_replicate": 8, "dp_shard": 4096, "precision": "fp32",
    }  # fmt: skip
    asked = PlanRequest(
        model="grok1-314b-l8", cluster="one-cpu", stack="bigscience-2022", fix=pins, tokens=10**10
    )
    with pytest.raises(Infeasible, match="has the pinned chunks"):
        make_plan(asked)


@pytest.mark.parametrize("limit", ["days", "power_w"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_limit_that_is_no_number_is_refused(limit, value):
    with pytest.raises(InputError, match=f"{limit} must be above 0"):
        make_plan(replace(SMALL, limits=Limits(**{limit: value})))


def test_more_plans_than_anybody_reads_are_refused():
    with pytest.raises(InputError, match=f"top is at most {MOST_PLANS}"):
        make_plan(replace(SMALL, top=MOST_PLANS + 1))


def test_a_miss_of_long_names_says_what_to_do_on_its_line():
    with pytest.raises(Infeasible) as error:
        make_plan(PlanRequest(model="bloom-h14336-l70-a112", gpu="a100-pcie-80gb", gpus=2))
    text = str(error.value)
    assert len(f"crore: {text}") <= MAX_MESSAGE_CHARS
    assert "crore fit bloom-h14336-l70-a112" in text


def test_a_run_shorter_than_one_step_is_refused():
    """Its fraction of a step made every bound useless: 39 CPU s for a deepseek-v2-lite."""
    with pytest.raises(InputError, match="shorter than one step"):
        make_plan(replace(SMALL, tokens=1))


@pytest.mark.parametrize("request_", [SMALL, replace(SMALL, model="olmoe-1b-7b", gpus=24)])
@pytest.mark.parametrize("margin", MARGINS)
def test_the_cells_of_more_memory_serve_less(request_, margin):
    question = resolve(request_)
    wary = resolve(replace(request_, limits=Limits(memory_margin=margin)))
    alone, shared = search(wary), search(wary, ground=Ground(question))
    assert alone.ranked == shared.ranked
    assert alone.candidates == shared.candidates
