"""Every number of a plan file has a line in the table, and the line is right."""

from __future__ import annotations

import json
import math

import pytest
from tests.plan.explain.formulas import computed

from crore.io import write_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record, read_mission
from crore.plan.explain.again import leaves
from crore.plan.explain.inputs import is_number
from crore.plan.explain.notes import note_of
from crore.plan.explain.walk import Explained

ASKED = {
    "dense": {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": 8, "fix": {"tp": 2}},
    "moe": {
        "model": "deepseek-v3",
        "gpu": "h100-sxm",
        "gpus": 2048,
        "tokens": 14_800_000_000_000,
        "top": 2,
    },
    "fleet": read_mission("ten_million") or {},
    "home": {"model": "gpt2", "gpu": "rtx-3090", "gpus": 1, "tokens": 10**9, "seq_len": 1024},
    "cluster": {"model": "llama-3.1-70b", "cluster": "dgx-h100", "objective": "cheapest"},
}


@pytest.fixture(scope="module", params=ASKED)
def plan(request, tmp_path_factory):
    """A plan of one kind as its file."""
    path = tmp_path_factory.mktemp("explain") / f"{request.param}.json"
    made = make_plan(PlanRequest(**ASKED[request.param]))
    write_json(path, "plan", SCHEMA_VERSION, plan_record(made))
    return path


@pytest.fixture(scope="module")
def explained(plan):
    return Explained(json.loads(plan.read_text(encoding="utf-8")), str(plan))


def numbers(explained: Explained) -> dict[str, int | float]:
    return leaves(explained.record)


@pytest.fixture(scope="module")
def answers(explained):
    """The explanation of every number of the file, by key."""
    return {key: explained.explain(key) for key in numbers(explained)}


def unexplained(explained: Explained) -> list[str]:
    """Numbers of the file that the table lacks, those of alternatives left out."""
    own = (key for key in numbers(explained) if not key.startswith("alternatives."))
    return [key for key in own if key not in explained.table]


def test_every_number_of_the_file_has_a_line(explained):
    """A key in this list needs an Entry in src/crore/plan/explain_{table,step,run}.py."""
    assert unexplained(explained) == []


def test_made_again_every_number_is_the_files(explained, answers):
    for key, value in numbers(explained).items():
        made = answers[key]
        assert made.value == value, key
        assert not made.differs
        assert made.in_file == value
    assert explained.numbers().differ == ()


def test_parts_and_operations_add_up_to_the_number(answers):
    summed = {key: (it.sum, it.value) for key, it in answers.items() if it.sum is not None}
    for key, (total, value) in summed.items():
        assert total == pytest.approx(value, rel=1e-12), key
    own = {"step_time_s.value", "memory_bytes_per_gpu", "parameters", "step_split_s.products",
           "step_split_s.optimizer", "memory_split_bytes.activations"}  # fmt: skip
    assert own <= set(summed)


def test_all_that_is_not_waiting_is_made_of_operations(explained, answers):
    waiting = {"host", "bubble", "stragglers", "uneven stages"}
    for part, seconds in explained.case.plan.step_split_s.items():
        made = answers[f"step_split_s.{part}"]
        assert bool(made.made_of) == (seconds > 0 and part not in waiting), part


def test_a_formula_computes_its_number_from_its_inputs(explained):
    """The text cannot rot: it is evaluated with the values of the inputs it names."""
    seen = 0
    for formula, found, value in computed(explained):
        assert found == pytest.approx(value, rel=1e-9), formula
        seen += 1
    assert seen >= 15


def test_every_input_leads_somewhere(explained):
    for key, entry in explained.table.items():
        for word in filter(is_number, entry.inputs):
            assert word in explained.table, f"{key} asks for {word}"
            assert explained._value(word) is not None, f"{key} asks for {word}"


def test_a_computed_number_says_how_and_from_what(explained):
    for key, entry in explained.table.items():
        if entry.kind == "derived":
            assert entry.formula or entry.functions, key
            assert entry.inputs, key
            assert all(note_of(function).text for function in entry.functions), key


def test_walking_back_ends_at_inputs(explained):
    """No number is explained by itself, however many steps away."""
    done: set[str] = set()

    def walk(key: str, above: tuple[str, ...]) -> None:
        assert key not in above, " <- ".join([*above, key])
        if key not in done:
            for word in filter(is_number, explained.table[key].inputs):
                walk(word, (*above, key))
            done.add(key)

    for key in explained.table:
        walk(key, ())


def test_nothing_in_the_table_is_of_no_plan(explained):
    kept = [key for key in explained.table if explained._value(key) is None]
    assert set(kept) <= {"economy.power_w", "economy.energy_j"} | {
        key for key in kept if key.startswith("economy.usd")
    }


def test_values_are_finite(explained):
    assert all(math.isfinite(line.value) for line in explained.numbers().lines)


def test_a_number_without_a_line_is_named(plan):
    record = json.loads(plan.read_text(encoding="utf-8"))
    record["new_number"] = 1.5
    explained = Explained(record, "plan.json")
    assert unexplained(explained) == ["new_number"]
