"""What a plan says of its run; a damaged plan is one line."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from crore.errors import InputError, UnknownName
from crore.plan.request import DAY_S
from crore.simulate import subject_of
from crore.simulate.failures import POLICIES, catalogue_run
from crore.simulate.run.subject import Spread

ALONE = ("restart-disk", "restart-peer", "hot-spares")
READ = (
    "islands", "worlds", "gpus", "step_time_s", "step_time_s.low", "step_time_s.value",
    "step_time_s.high", "tokens", "global_batch_tokens", "outer_step", "outer_step.interval",
    "outer_step.exposed_s", "spares", "learning_efficiency", "learning_efficiency.low",
    "learning_efficiency.value", "learning_efficiency.high", "model", "gpu", "recovery", "days",
    "days.value",
)  # fmt: skip
"""Keys of a plan of islands that a run is made from."""
MISSING = object()
WRONG: dict[str, Any] = {
    "missing": MISSING, "null": None, "list": [], "object": {}, "true": True, "negative": -1,
    "huge": 10**400, "infinite": float("inf"), "no number": float("nan"),
}  # fmt: skip


class Watched(dict[str, Any]):
    """A record that notes what is read of it."""

    def __init__(self, record: dict[str, Any], seen: set[str], at: str = "") -> None:
        super().__init__(record)
        self.seen, self.at = seen, at

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self.seen.add(self.at + key)
        inner = isinstance(value, dict)
        return Watched(value, self.seen, f"{self.at}{key}.") if inner else value


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a plan with one key of another value, or without it."""
    made = copy.deepcopy(body)
    owner = made
    *above, last = path.split(".")
    for key in above:
        owner = owner[key]
    if value is MISSING:
        del owner[last]
    else:
        owner[last] = value
    return made


@pytest.mark.parametrize(
    ("name", "applies"),
    [("dense", ALONE), ("one", ALONE), ("quorum", (*ALONE, "elastic", "quorum")),
     ("islands", POLICIES)],
)  # fmt: skip
def test_a_policy_applies_where_it_has_worlds_or_islands_to_act_on(plans, name, applies):
    found = subject_of(plans(name))
    assert set(found.applies) == set(applies)
    assert found.policy in found.applies


@pytest.mark.parametrize(
    ("name", "recovery", "policy"),
    [
        ("dense", "disk", "restart-disk"),
        ("dense", "peer", "restart-peer"),
        ("quorum", "quorum", "quorum"),
        ("islands", "quorum", "islands-quorum"),
    ],
)
def test_recovery_becomes_a_policy(plans, name, recovery, policy):
    assert subject_of({**plans(name), "recovery": recovery}).policy == policy


def test_a_recovery_that_no_plan_has_is_refused(plans):
    with pytest.raises(UnknownName, match="unknown recovery of the plan 'disc'; did you mean disk"):
        subject_of({**plans("dense"), "recovery": "disc"})


@pytest.mark.parametrize("name", ["dense", "one", "quorum", "islands"])
def test_a_run_has_the_sizes_of_its_plan(plans, name):
    body = plans(name)
    found = subject_of(body)
    run = found.run
    assert (run.gpus, run.islands, found.worlds) == (body["gpus"], body["islands"], body["worlds"])
    assert run.world_gpus * body["worlds"] == pytest.approx(body["gpus"])
    assert run.step_s == found.step_s.value == body["step_time_s"]["value"]
    rounds = body["outer_step"] or {"interval": 1, "exposed_s": 0}
    assert run.round_s == pytest.approx(rounds["interval"] * run.step_s + rounds["exposed_s"])
    assert run.hazard == 1.0


@pytest.mark.parametrize("name", ["dense", "one", "quorum", "islands", "ten_million"])
def test_the_work_is_what_the_planner_divides_by_its_goodput(plans, name):
    body = plans(name)
    found = subject_of(body)
    kept = body["goodput"] * body["learning_efficiency"]["value"]
    assert found.work_s / kept / DAY_S == pytest.approx(body["days"]["value"], rel=1e-9)
    assert found.planned_days == body["days"]["value"]


def test_what_compute_does_not_hide_of_an_outer_step_is_work_too(plans):
    body = plans("islands")
    longer = changed(body, "outer_step.exposed_s", body["outer_step"]["exposed_s"] + 60.0)
    before, after = subject_of(body), subject_of(longer)
    rounds = body["tokens"] / body["global_batch_tokens"] / body["outer_step"]["interval"]
    assert after.work_s - before.work_s == pytest.approx(60 * rounds)
    assert after.run.round_s - before.run.round_s == pytest.approx(60)


def test_spares_are_the_plans_where_it_leaves_any(plans):
    body = plans("islands")
    found = subject_of(body)
    assert found.spares_planned
    assert body["spares"] > 0
    assert found.run.spares.share == body["spares"] / body["gpus"]


def test_spares_are_the_catalogues_where_the_plan_leaves_none(plans):
    body = plans("dense")
    found = subject_of(body)
    assert not found.spares_planned
    assert body["spares"] == 0
    sizes = {name: getattr(found.run, name)
             for name in ("gpus", "world_gpus", "islands", "step_s", "round_s")}  # fmt: skip
    assert found.run == catalogue_run(**sizes)
    assert found.run.spares.share > 0
    other = subject_of({**body, "spares": 64})
    share = 64 / body["gpus"]
    assert other.run == replace(found.run, spares=replace(found.run.spares, share=share))


def test_the_keys_read_are_those_damaged_below(plans):
    seen: set[str] = set()
    subject_of(Watched(plans("islands"), seen))
    assert seen == set(READ)


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("path", READ)
def test_a_damaged_plan_is_one_line_that_names_the_key(plans, path, how):
    with pytest.raises(InputError) as refused:
        subject_of(changed(plans("islands"), path, WRONG[how]))
    text = str(refused.value)
    assert len(f"crore: {text}") <= 240
    assert "\n" not in text
    emptied = how == "object" and path in ("step_time_s", "outer_step", "learning_efficiency")
    named = {"step_time_s": "low", "learning_efficiency": "low", "outer_step": "interval"}
    key = named[path] if emptied else path.rpartition(".")[2]
    if path == "days" and how == "object":
        key = "value"
    assert key in text
    assert text.endswith("plan it again")


@pytest.mark.parametrize("key", ["tokens", "global_batch_tokens", "gpus", "worlds", "islands"])
@pytest.mark.parametrize("value", [0, "8", "eight"])
def test_nothing_of_something_and_words_for_numbers_are_refused(plans, key, value):
    with pytest.raises(InputError, match=f"damaged \\({key} must be a number above 0"):
        subject_of({**plans("islands"), key: value})


@pytest.mark.parametrize("key", ["gpus", "worlds", "islands"])
@pytest.mark.parametrize("value", [2.5, 1e11])
def test_counts_are_whole_and_no_fantasy(plans, key, value):
    with pytest.raises(InputError, match=f"{key} must be a whole number"):
        subject_of({**plans("islands"), key: value})


def test_fewer_worlds_than_islands_are_refused(plans):
    with pytest.raises(InputError, match="2 islands of at least one world"):
        subject_of({**plans("islands"), "worlds": 1})


@pytest.mark.parametrize("ends", [(2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (0.0, 1.0, 2.0)])
def test_an_interval_holds_its_middle(ends):
    with pytest.raises(InputError, match="0 < low <= value <= high"):
        Spread(**dict(zip(("low", "value", "high"), ends, strict=True)))
