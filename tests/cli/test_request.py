"""Flags laid over a mission or a model become one request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import crore.plan
from crore.cli import run
from crore.cli.request import request_of
from crore.errors import MAX_MESSAGE_CHARS, InputError, UnknownName
from crore.plan import Limits, PlanRequest

MISSION: dict[str, Any] = {
    "model": "m", "gpu": "g", "gpus": 8, "tokens": 5, "fix": {"tp": 8, "pp": 2},
    "limits": Limits(days=90, memory_bytes=10**9),
}  # fmt: skip


@pytest.fixture(autouse=True)
def missions(monkeypatch):
    monkeypatch.setattr(
        crore.plan, "read_mission", lambda name: dict(MISSION) if name == "mission" else None
    )


def test_a_model_and_its_machines_are_a_request():
    assert request_of("m", {"gpu": "g", "gpus": "16k"}) == PlanRequest(
        model="m", gpu="g", gpus=16_000
    )
    assert request_of("m", {"cluster": "c"}) == PlanRequest(model="m", cluster="c")


def test_a_mission_stands_as_it_is():
    assert request_of("mission", {}) == PlanRequest(**MISSION)


def test_a_flag_overrides_a_mission():
    made = request_of("mission", {"gpus": "64", "tokens": "1T", "objective": " Cheapest "})
    assert (made.gpus, made.tokens, made.objective, made.gpu) == (64, 10**12, "cheapest", "g")


def test_pins_and_limits_add_to_a_missions_own():
    made = request_of("mission", {"fix": "pp=4,cp=2", "limit": "days=30,power=1 MW"})
    assert made.fix == {"tp": 8, "pp": 4, "cp": 2}
    assert made.limits == Limits(days=30, memory_bytes=10**9, power_w=1e6)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("power=30 MW", Limits(power_w=30e6)),
        ("memory=24 GB", Limits(memory_bytes=24 * 10**9)),
        ("memory=24GiB", Limits(memory_bytes=24 * 2**30)),
        ("gpus=8k,world_gpus=10k", Limits(gpus=8000, world_gpus=10_000)),
        ("memory_margin=0", Limits(memory_margin=0.0)),
        ("global_batch_tokens=16M,days=0.5", Limits(global_batch_tokens=16 * 10**6, days=0.5)),
        ("", Limits()),
    ],
)
def test_limits_are_read_with_their_units(text, limits):
    assert request_of("m", {"gpu": "g", "gpus": "8", "limit": text}).limits == limits


def test_a_file_of_ones_own_is_passed_on():
    made = request_of("m", {"gpu": "g", "gpus": "8", "catalog": Path("own.toml")})
    assert made.catalog_file == Path("own.toml")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "m needs --gpu and --gpus, for example"),
        ({"gpu": "g"}, "m needs --gpus, for example"),
        ({"gpus": "8"}, "m needs --gpu, for example"),
        ({"gpu": "g", "gpus": "none"}, "--gpus must be"),
        ({"gpu": "g", "gpus": "8", "top": "0"}, "--top must be"),
        ({"gpu": "g", "gpus": "8", "limit": "days"}, "--limit days needs a value.*days=90"),
        ({"gpu": "g", "gpus": "8", "limit": "days=-1"}, "--limit days must be.*such as 90"),
        ({"gpu": "g", "gpus": "8", "limit": "memory_margin=x"}, "such as 0.04"),
        ({"gpu": "g", "gpus": "8", "limit": "power=5 GB"}, "such as 30 MW"),
        ({"gpu": "g", "gpus": "8", "limit": "days=1,days=2"}, "names days twice"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_with_an_example(given, words):
    with pytest.raises(InputError, match=words) as caught:
        request_of("m", given)
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS


def test_an_unknown_limit_is_met_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean days"):
        request_of("m", {"gpu": "g", "gpus": "8", "limit": "day=3"})


def test_a_plan_file_is_no_mission(capsys, tmp_path):
    file = tmp_path / "plan.json"
    assert run(["plan", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpus", "8", "-o", str(file)]) == 0
    capsys.readouterr()
    assert run(["plan", str(file)]) == 2
    assert "is a plan already: crore explain" in capsys.readouterr().err
