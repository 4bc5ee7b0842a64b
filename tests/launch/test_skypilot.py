"""The task is what SkyPilot's own schemas take, and says what the plan says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crore.catalog import load_catalog
from crore.errors import UnknownName
from crore.launch import export

SCHEMAS = json.loads(
    (Path(__file__).parent / "data" / "skypilot_schemas.json").read_text(encoding="utf-8")
)


def fleet(make):
    """Return a fleet of GPUs that SkyPilot has."""
    return replace(make("fleet"), accelerator=load_catalog().accelerator("h100-sxm"))


def task(launch, name: str = "task.yaml") -> dict[str, Any]:
    """Return a task, read."""
    files = {file.name: file.text for file in export("skypilot", launch, "{}").files}
    read: dict[str, Any] = yaml.safe_load(files[name])
    return read


def check(found: dict[str, Any]) -> None:
    """Raise where SkyPilot does not take a task; it checks resources by themselves too."""
    jsonschema.validate(found, SCHEMAS["task"])
    jsonschema.validate(found["resources"], SCHEMAS["resources"])


def test_machines_are_the_plans(make):
    found = task(make("405b"))
    assert found["num_nodes"] == 2048
    assert found["resources"] == {"accelerators": "H100:8"}
    assert "--nnodes 2048 --nproc-per-node 8" in found["run"]
    assert task(make("processor"))["resources"] == {"cpus": "2+"}


@pytest.mark.parametrize("name", ["405b", "one card", "processor"])
def test_skypilot_takes_it(make, name):
    check(task(make(name)))


def test_skypilot_takes_a_fleets_worlds_and_lighthouse(make):
    world = task(fleet(make))
    check(world)
    assert world["envs"] == dict.fromkeys(("WORLD", "ISLAND_LIGHTHOUSE", "FLEET_LIGHTHOUSE"))
    asked = '--world "$world" --lighthouse "$ISLAND_LIGHTHOUSE" --fleet "$FLEET_LIGHTHOUSE"'
    assert asked in world["run"]
    light = task(fleet(make), "lighthouse.yaml")
    check(light)
    assert f"--port {light['resources']['ports']}" in light["run"]


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("", "nodes", 8),
        ("", "num_nodes", "8"),
        ("", "run", ["torchrun"]),
        ("", "envs", {"the world": "1"}),
        ("resources", "accelerator", "H100:8"),
        ("resources", "accelerators", 8),
        ("resources", "cpus", ["2+"]),
    ],
)
def test_seeded_errors_are_found(make, place, key, value):
    found = task(make("405b"))
    (found[place] if place else found)[key] = value
    with pytest.raises(jsonschema.ValidationError):
        check(found)


def test_a_gpu_it_has_no_name_for_is_refused(make):
    with pytest.raises(UnknownName, match="SkyPilot"):
        task(make("fleet"))
