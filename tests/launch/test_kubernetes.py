"""The manifests are what Kubeflow Trainer, JobSet and Kubernetes take; seeded errors are not."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubeflow_trainer_api import models
from pydantic import ValidationError

from crore.errors import InputError
from crore.launch import export

Json = dict[str, Any]
KINDS = {
    "TrainJob": models.TrainerV1alpha1TrainJob,
    "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
    "JobSet": models.JobsetV1alpha2JobSet,
}
NAMES = ("dense", "one card", "fleet", "processor")


PLACES = {"WORLD": "47", "FLEET_LIGHTHOUSE": "far.example:29510", "LIGHTHOUSE": "island-1"}


def manifests(launch, plan: str = '{"a": 1}') -> dict[str, Json]:
    """Return the objects by kind, as world 47 of a fleet has them."""
    files = export("kubernetes", launch, plan, image="registry.example/crore:1").files
    found = {}
    for name in [file.name for file in files if file.name.endswith(".json")]:
        record = json.loads(text_of(launch, files, name))
        for item in record["items"] if record["kind"] == "List" else [record]:
            found[item["kind"]] = item
    return found


def text_of(launch, files, name: str) -> str:
    """Return a manifest, filled in by the script that comes with those of a fleet."""
    texts = {file.name: file.text for file in files}
    if not launch.is_fleet or name == "configmap.json":
        return str(texts[name])
    done = filled(texts, name, PLACES)
    assert done.returncode == 0, done.stderr
    return done.stdout


def filled(
    texts: dict[str, str], name: str, places: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the script that fills in a manifest."""
    with tempfile.TemporaryDirectory() as folder:
        for it in ("fill.sh", name):
            (Path(folder) / it).write_text(texts[it], encoding="utf-8")
        return subprocess.run(
            ["bash", f"{folder}/fill.sh", name], env={"PATH": "/usr/bin:/bin", **places},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def accept(item: Json) -> None:
    """Raise where an object is not its kind's: a wrong type, or a key that the kind lacks."""
    read = KINDS[item["kind"]].from_dict(item)
    assert read is not None
    lost(item, read.to_dict(), item["kind"])


def lost(given: Any, kept: Any, where: str) -> None:
    """Raise ValueError for a part of `given` that reading it dropped."""
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in kept:
                raise ValueError(f"{where} has no {key}")
            lost(value, kept[key], f"{where}.{key}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            lost(one, other, f"{where}[{number}]")
    elif given != kept:
        raise ValueError(f"{where}: {given} became {kept}")


def job_of(item: Json) -> Json:
    """Return the batch/v1 Job that a JobSet, or a runtime's template, makes."""
    spec = item["spec"] if item["kind"] == "JobSet" else item["spec"]["template"]["spec"]
    job = copy.deepcopy(spec["replicatedJobs"][0]["template"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **job}


def check_core(item: Json) -> None:
    """Raise where Kubernetes does not take an object of its core."""
    kubernetes_validate.validate(item, "1.31", strict=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_of_their_kinds(make, name, kind):
    accept(manifests(make(name))[kind])


@pytest.mark.parametrize("name", NAMES)
def test_their_jobs_and_maps_are_kubernetes_own(make, name):
    found = manifests(make(name))
    check_core(found["ConfigMap"])
    check_core(job_of(found["JobSet"]))
    check_core(job_of(found["TrainingRuntime"]))
    for kind in ("Deployment", "Service"):
        assert (kind in found) == (name == "fleet")
        if name == "fleet":
            check_core(found[kind])


def test_a_world_finds_the_lighthouses_of_its_island_and_of_the_fleet(make):
    launch = make("fleet")
    found = manifests(launch)
    service = found["Service"]["metadata"]["name"]
    assert service == f"{launch.name}-island-1"
    assert 47 in launch.worlds_of(1)
    command = found["TrainJob"]["spec"]["trainer"]["command"]
    asked = dict(itertools.pairwise(command))
    assert asked["--world"] == "47"
    assert asked["--lighthouse"] == f"{service}:29510"
    assert asked["--fleet"] == "far.example:29510"
    pod = found["Deployment"]["spec"]["template"]
    assert found["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert found["Service"]["spec"]["ports"][0]["port"] == port == 29510


@pytest.mark.parametrize("world", [0, 23, 24, 1919, 1920, 1928, 1999, 2000])
def test_a_world_finds_its_island_where_the_trainer_puts_it(make, world):
    from crore.train.fault.seat import island_of

    launch = make("fleet")
    texts = {file.name: file.text for file in export("kubernetes", launch, "{}").files}
    said = filled(texts, "trainjob.json", {**PLACES, "WORLD": str(world)}).stdout
    island = island_of(world, launch.worlds, launch.islands)
    assert f'"{launch.name}-island-{island}:29510"' in said


@pytest.mark.parametrize(
    ("name", "missing"),
    [("trainjob.json", "WORLD"), ("jobset.json", "FLEET_LIGHTHOUSE"),
     ("lighthouse.json", "LIGHTHOUSE")],
)  # fmt: skip
def test_what_is_missing_is_one_line_and_no_manifest(make, name, missing):
    files = export("kubernetes", make("fleet"), "{}").files
    given = {key: value for key, value in PLACES.items() if key != missing}
    done = filled({file.name: file.text for file in files}, name, given)
    assert done.returncode != 0
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert f" {missing}: " in done.stderr


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("Deployment", "spec/replicas", "one"),
        ("Deployment", "spec/strategy/type", 1),
        ("Deployment", "spec/template/spec/containers/0/port", []),
        ("Service", "spec/ports/0/port", "http"),
    ],
)
def test_seeded_errors_in_a_lighthouse_are_found(make, kind, place, value):
    item = manifests(make("fleet"))[kind]
    check_core(item)
    holder, key = at(item, place)
    holder[key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check_core(item)


def at(record: Any, place: str) -> tuple[Any, Any]:
    """Return the part that holds a place, and its key there."""
    *path, last = [int(key) if key.isdigit() else key for key in place.split("/")]
    for key in path:
        record = record[key]
    return record, last


POD = "spec/template/spec"
SEEDED: tuple[tuple[str, str, Any], ...] = (
    ("TrainJob", "spec/trainer/numNodes", "two"),
    ("TrainJob", "spec/trainer/numProcPerNode", "8"),
    ("TrainJob", "spec/runtimeRef/name", 7),
    ("TrainJob", "spec/trainer/numNode", 8),
    ("TrainJob", "spec/trainers", {}),
    ("TrainingRuntime", "spec/mlPolicy/numNodes", 1.5),
    ("TrainingRuntime", "spec/mlPolicy/pytorch", {}),
    ("TrainingRuntime", "spec/template/spec/failurePolicy/maxRestarts", "3"),
    ("JobSet", "spec/replicatedJobs/0/replicas", "1"),
    ("JobSet", "spec/replicatedJobs/0/template/spec/parallelism", "8"),
    ("JobSet", "spec/replicatedJobs/0/template/spec/template/spec/containers/0/name", None),
    ("JobSet", "spec/failurePolicy/maxRestart", 3),
)


@pytest.mark.parametrize(("kind", "place", "value"), SEEDED)
def test_seeded_errors_are_found(make, kind, place, value):
    item = manifests(make("dense"))[kind]
    holder, key = at(item, place)
    holder[key] = value
    with pytest.raises((ValidationError, ValueError)):
        accept(item)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (f"{POD}/containers/0/resources/limits", "8 GPUs"),
        (f"{POD}/containers/0/command", "torchrun"),
        (f"{POD}/containers/0/imagee", "x"),
        (f"{POD}/volumes/0/configMap", "plan"),
        ("spec/completions", "all"),
        ("spec/backoffLimits", 0),
    ],
)
def test_seeded_errors_in_its_jobs_are_found(make, place, value):
    job = job_of(manifests(make("dense"))["JobSet"])
    check_core(job)
    holder, key = at(job, place)
    holder[key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check_core(job)


def test_nodes_ranks_and_cards_are_the_plans(make):
    launch = make("405b")
    found = manifests(launch)
    trainer = found["TrainJob"]["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2048, 8)
    assert trainer["resourcesPerNode"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert trainer["image"] == "registry.example/crore:1"
    job = job_of(found["JobSet"])["spec"]
    assert job["parallelism"] == job["completions"] == launch.nodes
    runtime = found["TrainingRuntime"]["metadata"]["name"]
    assert found["TrainJob"]["spec"]["runtimeRef"]["name"] == runtime


def test_the_plan_is_in_the_map_and_must_fit(make):
    assert manifests(make("dense"), '{"é": 1}')["ConfigMap"]["data"]["plan.json"] == '{"é": 1}'
    with pytest.raises(InputError, match="ConfigMap"):
        manifests(make("dense"), "x" * 1_100_000)


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_within_what_a_pods_name_may_be(make, name):
    launch = make(name, name="a-very-long-name-of-a-model-of-somebody-else")
    found = manifests(launch)
    for item in (found["TrainJob"], found["JobSet"]):
        assert len(item["metadata"]["name"]) + len("-node-0-99999-abcde") <= 63
