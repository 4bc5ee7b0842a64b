"""The mission this_machine is planned from what was measured, or says that nothing was."""

from __future__ import annotations

import json

import pytest
from tests.machines import calibration, setting

from crore.catalog.calibration_text import calibration_text
from crore.cli import run
from crore.errors import InputError
from crore.io import dump_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record, read_mission
from crore.plan.explain.again import case_of
from crore.plan.explain.parts import step_items


@pytest.fixture
def plan(tmp_path):
    """Return a planner of the mission on the invented machine, or on none."""

    def _plan(seed=None, made=None, **changed):
        fields = (read_mission("this_machine") or {}) | changed
        if made or seed is not None:
            path = tmp_path / "mine.toml"
            path.write_text(calibration_text(made or calibration(seed)), encoding="utf-8")
            fields["catalog_file"] = path
        return make_plan(PlanRequest(**fields))

    return _plan


def numbers(answer):
    """A plan's record without what differs from run to run."""
    record = plan_record(answer)
    return {key: value for key, value in record.items() if key != "search_cpu_s"}


@pytest.mark.parametrize("gpus", [1, 2])
def test_one_calibration_gives_one_plan(gpus, plan):
    assert numbers(plan(3, gpus=gpus)) == numbers(plan(3, gpus=gpus))
    assert plan(3, gpus=gpus).plan.run_s != plan(4, gpus=gpus).plan.run_s


def test_a_measured_machine_is_named_with_its_setting(plan):
    one, two = plan(0), plan(0, gpus=2)
    assert "Two invented cores as measured on 2026-11-26: 1 process of 2 threads" in (
        one.question.derived
    )
    assert any("2 processes of 1 thread" in line for line in two.question.derived)
    assert one.plan.step_time_s.evidence == two.plan.step_time_s.evidence == "measured"
    assert one.question.memory_bytes == 16e9
    assert two.question.memory_bytes == 8e9
    assert one.plan.memory_split_bytes["context"] == 230e6
    assert one.plan.memory_split_bytes["fragmentation"] == 0


def test_more_processes_than_were_measured_are_called_extrapolated(plan):
    four = plan(0, gpus=4)
    assert any("4 processes, extrapolated from 2" in line for line in four.question.derived)
    assert four.plan.step_time_s.evidence == "extrapolated"


def test_a_machine_measured_alone_is_not_planned_for_several(plan):
    alone = calibration(settings=(setting(1, 2),))
    assert plan(made=alone).plan.gpus == 1  # what if it were two: not answered
    with pytest.raises(InputError, match="crore calibrate --processes 2"):
        plan(made=alone, gpus=2)


def test_an_unmeasured_machine_is_estimated_and_says_so(plan):
    answer = plan()
    assert any("not measured (crore calibrate)" in line for line in answer.question.derived)
    assert answer.plan.step_time_s.evidence == "extrapolated"
    assert answer.plan.memory_split_bytes["context"] == 0  # a CPU has no CUDA context


def test_half_the_machine_is_no_faster_than_all_of_it(plan):
    steps = [step for step in plan(0).what_if if step.step == "GPUs x 2"]
    assert steps
    assert steps[0].ratio > 0.7


@pytest.mark.parametrize("gpus", [1, 2])
def test_operations_of_a_measured_step_add_up(gpus, plan):
    record = json.loads(dump_json("plan", SCHEMA_VERSION, plan_record(plan(0, gpus=gpus))))
    case = case_of(record, "plan.json")
    for part, seconds in case.plan.step_split_s.items():
        total = sum(item.amount for item in step_items(case, part)) if seconds else 0.0
        assert total == pytest.approx(seconds, rel=1e-12), part


def test_a_misspelt_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(calibration_text(calibration()).replace("took_s", "took"), encoding="utf-8")
    assert run(["plan", "this_machine", "--catalog", str(path)]) == 2
    assert "took_s" in capsys.readouterr().err
