"""A folder is written whole, and never over files of others; a map has no row per GPU."""

from __future__ import annotations

import json
import os
import time
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from crore.cli.document import headed
from crore.errors import InputError
from crore.launch import export, write_launch


def put(folder, launch, target="slurm"):
    """Write a launch with a plan of no content."""
    return write_launch(folder, launch, export(target, launch, "{}"), "{}", headed({}))


SCHEMA = Draft202012Validator(
    json.loads((files("crore") / "schemas" / "launch.json").read_text(encoding="utf-8"))
)


@pytest.mark.parametrize(
    ("name", "target"),
    [("dense", "slurm"), ("fleet", "kubernetes"), ("one card", "torchrun"), ("405b", "skypilot"),
     ("experts", "megatron"), ("dense", "torchtitan")],
)  # fmt: skip
def test_the_map_is_as_its_schema_says_key_by_key(make, tmp_path, name, target):
    put(tmp_path / "job", make(name, {"zero": 1, "recompute": "none"}), target)
    record = json.loads((tmp_path / "job" / "map.json").read_text(encoding="utf-8"))
    assert [error.message for error in SCHEMA.iter_errors(record)] == []
    for key in record:
        assert not SCHEMA.is_valid({k: v for k, v in record.items() if k != key}), key
        assert not SCHEMA.is_valid({**record, key: {"some": "thing"}}), key
    assert not SCHEMA.is_valid({**record, "other": 1})
    island = record["islands"][0]
    for wrong in ({**island, "other": 1}, {**island, "gpus": [0]}, {"island": 0}):
        assert not SCHEMA.is_valid({**record, "islands": [wrong]})


def held(folder: Path) -> set[str]:
    """Return the names of what is in a folder."""
    return {path.name for path in folder.iterdir()}


def test_a_new_folder_appears_whole(make, tmp_path):
    names = put(tmp_path / "job", make("dense"))
    assert held(tmp_path / "job") == set(names)
    assert held(tmp_path) == {"job"}
    assert os.access(tmp_path / "job" / "health.sh", os.X_OK)


def test_an_empty_folder_is_taken(make, tmp_path):
    put(tmp_path, make("dense"))
    assert (tmp_path / "map.json").is_file()


def test_files_of_others_are_kept(make, tmp_path):
    (tmp_path / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(InputError, match="holds other files"):
        put(tmp_path, make("dense"))
    assert held(tmp_path) == {"thesis.tex"}


def test_a_second_launch_takes_the_first_ones_place_and_leaves_the_run(make, tmp_path):
    put(tmp_path / "job", make("dense"))
    (tmp_path / "job" / "run").mkdir()
    names = put(tmp_path / "job", make("dense"), "torchrun")
    assert held(tmp_path / "job") == {*names, "run"}
    assert "world.sbatch" not in names


def test_a_file_that_no_launch_wrote_is_not_replaced(make, tmp_path):
    put(tmp_path / "job", make("dense"))
    (tmp_path / "job" / "torchrun.sh").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"torchrun\.sh is of no launch"):
        put(tmp_path / "job", make("dense"), "torchrun")
    assert (tmp_path / "job" / "world.sbatch").is_file()


@pytest.mark.parametrize("files", [["../plan.json"], "plan.json", [1], None])
def test_a_map_that_names_files_elsewhere_is_not_followed(make, tmp_path, files):
    put(tmp_path / "job", make("dense"))
    path = tmp_path / "job" / "map.json"
    record = json.loads(path.read_text(encoding="utf-8")) | {"files": files}
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        put(tmp_path / "job", make("dense"))


def test_a_folder_that_cannot_be_is_one_line(make, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "no" / "where"):
        with pytest.raises(InputError):
            put(folder, make("dense"))


def test_ten_million_gpus_are_small_and_fast(make, tmp_path):
    launch = make("fleet")
    before_s = time.process_time()
    names = put(tmp_path / "job", launch)
    assert time.process_time() - before_s < 0.5
    assert len(names) <= 7
    assert sum((tmp_path / "job" / name).stat().st_size for name in names) < 1_000_000


@pytest.mark.parametrize("name", ["dense", "fleet"])
def test_the_map_covers_every_gpu_once(make, tmp_path, name):
    launch = make(name)
    put(tmp_path / "job", launch)
    record = json.loads((tmp_path / "job" / "map.json").read_text(encoding="utf-8"))
    assert record["schema"] == "crore.launch/1"
    world, gpu = 0, 0
    for row in record["islands"]:
        assert row["worlds"][0] == world
        assert row["gpus"][0] == gpu == world * record["gpus_per_world"]
        world, gpu = row["worlds"][1] + 1, row["gpus"][1] + 1
    assert (world, gpu) == (record["worlds"], record["gpus"])
    assert record["nodes_per_world"] * record["gpus_per_node"] == record["gpus_per_world"]
    spares = record["spares"]
    assert (spares[1] if spares else gpu - 1) == gpu + launch.spares - 1


def test_the_map_numbers_gpus_as_the_rehearsal_does(make, tmp_path, bodies):
    from crore.rehearse.place import fleet_of

    put(tmp_path / "job", make("fleet"))
    record = json.loads((tmp_path / "job" / "map.json").read_text(encoding="utf-8"))
    fleet = fleet_of(bodies["fleet"])
    for gpu in (0, 7_654_321, fleet.gpus - 1):
        row = record["islands"][fleet.place(gpu).island]
        assert row["gpus"][0] <= gpu <= row["gpus"][1]
