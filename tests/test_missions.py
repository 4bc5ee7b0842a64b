"""The missions that ship with crore name things that exist, and their numbers fit together."""

from __future__ import annotations

import pytest

from crore.catalog import load_catalog
from crore.cost import active_parameters, parameters, shape_of
from crore.plan import check_mission, mission_names, read_mission

CATALOG = load_catalog()


@pytest.mark.parametrize("name", mission_names())
def test_a_mission_explains_itself_and_leaves_no_data_open(name):
    mission = read_mission(name) or {}
    assert {"title", "note", "source", "model", "precision", "tokens", "seq_len"} <= mission.keys()
    assert mission.get("cluster") or {"gpu", "gpus"} <= mission.keys()


@pytest.mark.parametrize(
    ("name", "code"),
    [(name, int(name == "baichuan13b_3090")) for name in mission_names()],
)
def test_a_mission_is_sound(name, code):
    assert check_mission(name).exit_code == code


def test_the_first_mission_is_two_passes_over_the_stock_on_ten_million_gpus():
    mission = read_mission("ten_million") or {}
    assert mission["gpus"] == 10_000_000
    assert mission["tokens"] == 2 * mission["stock_tokens"] == 600 * 10**12
    assert mission["global_batch"] * mission["seq_len"] == pytest.approx(1e9, rel=0.1)
    assert "one synchronous world" not in mission["title"] + mission["note"]


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("ten_million", 30.2e12, 30.2e12),
        ("ten_million_moe", 127e12, 5.25e12),
        ("gpt4_20k", 1.83e12, 280e9),  # 1.8T, about 280B active (SemiAnalysis, 2023-07)
        ("deepseek_v3", 671e9, 37.6e9),  # 671B, 37B active (arXiv 2412.19437)
        ("this_machine", 1.38e6, 1.38e6),
    ],
)
def test_a_mission_trains_a_model_of_this_size(name, total, active):
    shape = shape_of(CATALOG.model((read_mission(name) or {})["model"]))
    assert float(parameters(shape)) == pytest.approx(total, rel=0.005)
    assert float(active_parameters(shape)) == pytest.approx(active, rel=0.01)


def test_a_rumour_is_called_one():
    mission = read_mission("gpt4_20k") or {}
    assert "RUMOUR" in mission["note"]
    assert not CATALOG.model(mission["model"]).provenance.verified
    assert not CATALOG.cluster(mission["cluster"]).provenance.verified
