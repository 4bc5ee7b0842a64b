"""The batch file asks for what the plan has."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from crore.launch import export


def directives(text: str) -> dict[str, str]:
    """Return the #SBATCH lines."""
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.M))


def script(launch) -> str:
    """Return the batch file."""
    return export("slurm", launch, "{}").files[0].text


def test_a_job_asks_for_the_plans_nodes_and_cards(make):
    asked = directives(script(make("405b")))
    assert asked["nodes"] == "2048"
    assert asked["ntasks-per-node"] == "8"
    assert asked["gres"] == "gpu:8"
    assert "requeue" in asked
    assert asked["signal"].startswith("B:USR1@")
    assert "gres" not in directives(script(make("processor")))


SBATCH = """\
#!/bin/sh
echo "$FIRST_WORLD $*"
"""
WHERE = {"ISLAND_LIGHTHOUSE": "a:1", "FLEET_LIGHTHOUSE": "b:2"}


def island(launch, folder: Path, number: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Submit an island with an sbatch that only says what it was asked."""
    files = {file.name: file.text for file in export("slurm", launch, "{}").files}
    (folder / "island.sh").write_text(files["island.sh"], encoding="utf-8")
    (folder / "sbatch").write_text(SBATCH, encoding="utf-8")
    (folder / "sbatch").chmod(0o755)
    return subprocess.run(
        ["bash", str(folder / "island.sh"), number, "--qos=high"],
        env={"PATH": f"{folder}:/usr/bin:/bin", **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def submitted(said: str, most: int) -> list[int]:
    """Return the worlds of what an sbatch was asked."""
    worlds: list[int] = []
    for line in said.splitlines():
        asked = re.fullmatch(r"(\d+) --export=ALL --array=0-(\d+) --qos=high world.sbatch", line)
        assert asked is not None, line
        first, last = int(asked[1]), int(asked[2])
        assert last < most  # what MaxArraySize allows
        worlds += range(first, first + last + 1)
    return worlds


def test_every_world_of_a_fleet_is_submitted_once(make, tmp_path):
    launch = make("fleet")
    found = [
        submitted(island(launch, tmp_path, str(number), **WHERE).stdout, 1001)
        for number in range(launch.islands)
    ]
    assert [list(launch.worlds_of(number)) for number in range(launch.islands)] == found
    assert [world for worlds in found for world in worlds] == list(range(launch.worlds))


@pytest.mark.parametrize(("worlds", "most"), [(1, 1001), (1001, 1001), (1002, 1001), (4400, 7)])
def test_an_island_larger_than_an_array_may_be_is_several(make, tmp_path, worlds, most):
    launch = replace(make("fleet"), worlds=3 * worlds, islands=3)
    said = island(launch, tmp_path, "2", MAX_ARRAY_SIZE=str(most), **WHERE).stdout
    assert submitted(said, most) == list(range(2 * worlds, 3 * worlds))


@pytest.mark.parametrize(
    ("number", "given", "said"),
    [
        ("0", {"ISLAND_LIGHTHOUSE": "a:1"}, "FLEET_LIGHTHOUSE: HOST:29510"),
        ("0", {"FLEET_LIGHTHOUSE": "b:2"}, "ISLAND_LIGHTHOUSE: HOST:29510"),
        ("80", WHERE, "no island 80: they are 0 to 79"),
        ("one", WHERE, "no island one: they are 0 to 79"),
    ],
)
def test_what_an_island_lacks_is_one_line_and_nothing_is_submitted(
    make, tmp_path, number, given, said
):
    done = island(make("fleet"), tmp_path, number, **given)
    assert done.returncode != 0
    assert said in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_one_island_has_no_lighthouse_of_a_fleet_and_lone_worlds_none_of_an_island(make):
    together = script(replace(make("fleet"), worlds=4, islands=1))
    assert '--lighthouse "$ISLAND_LIGHTHOUSE"' in together
    assert "FLEET_LIGHTHOUSE" not in together
    apart = script(replace(make("fleet"), worlds=4, islands=4))
    assert '--fleet "$FLEET_LIGHTHOUSE"' in apart
    assert "ISLAND_LIGHTHOUSE" not in apart
    assert "LIGHTHOUSE" not in script(make("405b"))


@pytest.mark.parametrize("name", ["dense", "fleet", "processor"])
def test_it_is_bash(make, name):
    done = subprocess.run(["bash", "-n"], input=script(make(name)), text=True, check=False)
    assert done.returncode == 0
