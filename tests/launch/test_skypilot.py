"""The task is YAML that says what the plan says."""

from __future__ import annotations

import pytest
import yaml

from crore.errors import UnknownName
from crore.launch import export


def task(launch):
    """Return the task, read."""
    return yaml.safe_load(export("skypilot", launch, "{}").files[0].text)


def test_machines_are_the_plans(make):
    found = task(make("405b"))
    assert found["num_nodes"] == 2048
    assert found["resources"] == {"accelerators": "H100:8"}
    assert "--nnodes 2048 --nproc-per-node 8" in found["run"]
    assert task(make("processor"))["resources"] == {"cpus": "2+"}


@pytest.mark.parametrize("name", ["405b", "one card", "processor"])
def test_it_has_the_keys_of_a_task_and_no_other(make, name):
    found = task(make(name))
    assert set(found) <= {"name", "num_nodes", "resources", "workdir", "envs", "setup", "run"}
    assert isinstance(found["run"], str)


def test_a_gpu_it_has_no_name_for_is_refused(make):
    with pytest.raises(UnknownName, match="SkyPilot"):
        task(make("fleet"))
