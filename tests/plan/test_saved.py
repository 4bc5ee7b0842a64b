"""A plan file is read back as the request that made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crore.errors import InputError, UnknownName
from crore.io import write_json
from crore.plan import SCHEMA_VERSION, Limits, PlanRequest, make_plan, plan_record, read_saved

REQUEST = PlanRequest(
    model="llama-3.1-8b", gpu="h100-sxm", gpus=16, tokens=10**12,
    fix={"tp": 2, "recompute": "full"},
    limits=Limits(days=1000.0, memory_bytes=70 * 10**9), title="Mine",
)  # fmt: skip


@pytest.fixture(scope="module")
def answer():
    return make_plan(REQUEST)


@pytest.fixture
def path(answer, tmp_path):
    file = tmp_path / "plan.json"
    write_json(file, "plan", SCHEMA_VERSION, plan_record(answer))
    return file


def read(path):
    saved = read_saved(path)
    assert saved is not None
    return saved


def change(path, **keys):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **keys}))


def test_the_request_comes_back_whole(path, answer):
    saved = read(path)
    assert saved.request == REQUEST
    assert saved.days == answer.plan.days.value


def test_a_catalogue_file_comes_back_as_a_path(path):
    request = json.loads(path.read_text())["request"]
    change(path, request={**request, "catalog_file": "own.toml"})
    assert read(path).request.catalog_file == Path("own.toml")


def test_json_without_a_schema_is_no_plan(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"hidden_size": 8}')
    assert read_saved(file) is None


@pytest.mark.parametrize(
    ("keys", "error", "expected"),
    [
        ({"schema": "crore.fit/1"}, InputError, "must hold schema crore.plan, not crore.fit/1"),
        ({"schema": "crore.plan/99"}, InputError, "install a newer crore"),
        ({"request": {"model": "m", "gpsu": 8}}, UnknownName, "did you mean gpu, gpus"),
        ({"request": {"gpus": 8}}, InputError, "request lacks model"),
        ({"request": {"model": "m", "gpus": "many"}}, InputError, "request.gpus: Input should be"),
        ({"request": {"model": "m", "limits": {"dayz": 1}}}, UnknownName, "did you mean days"),
        ({"request": 8}, InputError, "must be an object"),
        ({"days": {"value": None}}, InputError, "days.value must be a number, not None"),
    ],
)
def test_a_damaged_file_is_one_line(path, keys, error, expected):
    change(path, **keys)
    with pytest.raises(error, match=expected) as raised:
        read_saved(path)
    assert len(str(raised.value)) <= 240
