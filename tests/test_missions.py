"""The missions that ship with crore name things that exist, and their numbers fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

import crore
from crore.catalog import load_catalog
from crore.io import check_keys, read_toml

MISSIONS = sorted(Path(crore.__file__).with_name("missions").glob("*.toml"))
KEYS = ("title", "model", "gpu", "gpus", "tokens", "seq_len", "global_batch_tokens", "precision")
EXPLAINED = ("note", "source")


@pytest.mark.parametrize("path", MISSIONS, ids=lambda path: path.name)
def test_a_mission_is_complete_and_consistent(path):
    mission = read_toml(path)
    check_keys(mission, KEYS + EXPLAINED, path.name, required=KEYS + EXPLAINED)
    catalog = load_catalog()
    assert catalog.model(mission["model"]).layers > 0
    assert mission["precision"].removeprefix("mx") in catalog.accelerator(mission["gpu"]).peak_flops
    assert mission["global_batch_tokens"] % mission["seq_len"] == 0
    assert mission["tokens"] > mission["global_batch_tokens"]


def test_the_first_mission_is_ten_million_gpus():
    [path] = [p for p in MISSIONS if p.name == "ten_million.toml"]
    assert read_toml(path)["gpus"] == 10_000_000
