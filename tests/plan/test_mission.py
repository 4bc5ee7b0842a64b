"""Missions: shipped files and the user's own, every key checked, with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.plan import Limits, PlanRequest, mission_names, read_mission
from crore.plan.schema import TABLES, dotted, key_lines

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "missions.md"
WHOLE = """\
title = "All of it"
note = "every table"
source = "mine"
model = "gpt2"
precision = " BF16"
stack = "Crore"
objective = "cheapest"
[data]
tokens = "15T"
seq_len = 4096
global_batch_tokens = "1.28B"
stock_tokens = 3e14
lost_worlds = "Scale-LR"
[cluster]
name = "dgx-h100"
gpus = "10M"
fabric = "rail-400g"
wan = "wan-1000km"
sites = 25
[money]
basis = "Rented"
[limits]
gpus = "8k"
memory = "80 GB"
memory_margin = 0.05
global_batch_tokens = "16M"
power = "30 MW"
days = 100
world_gpus = "10k"
[fix]
tp = 8
zero = 1
recompute = "Full"
"""


def mission(folder, text):
    """Write a mission file and read it."""
    path = folder / "mine.toml"
    path.write_text(text)
    return read_mission(str(path))


def test_shipped_missions_are_found_by_name():
    assert mission_names() == (
        "baichuan13b_3090", "deepseek_v3", "gpt4_20k", "llama3_405b", "ten_million",
        "ten_million_moe", "this_machine",
    )  # fmt: skip
    assert (read_mission("ten_million") or {})["gpus"] == 10_000_000


def test_every_table_becomes_the_words_of_a_request(tmp_path):
    fields = mission(tmp_path, WHOLE)
    limits = Limits(
        gpus=8000, memory_bytes=80 * 10**9, memory_margin=0.05, global_batch_tokens=16 * 10**6,
        power_w=30e6, days=100, world_gpus=10_000,
    )  # fmt: skip
    assert fields == {
        "title": "All of it", "note": "every table", "source": "mine", "model": "gpt2",
        "precision": "bf16", "stack": "crore", "objective": "cheapest", "tokens": 15 * 10**12,
        "seq_len": 4096, "global_batch_tokens": 1_280_000_000, "stock_tokens": 3 * 10**14,
        "lost_worlds": "scale-lr",
        "cluster": "dgx-h100", "gpus": 10**7, "fabric": "rail-400g", "wan": "wan-1000km",
        "sites": 25, "basis": "rented", "limits": limits,
        "fix": {"tp": 8, "zero": 1, "recompute": "full"},
    }  # fmt: skip
    assert PlanRequest(**fields).limits.power_w == 30e6


def test_what_is_left_out_is_not_in_the_request(tmp_path):
    assert mission(tmp_path, '\ufeffmodel = "gpt2"\n') == {"model": "gpt2"}


def test_a_model_name_is_no_mission():
    assert read_mission("llama3-8b") is None


def test_a_mission_file_may_have_any_name_but_a_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "gpt2", "config.json"):
        (tmp_path / name).write_text('model = "gpt2"\n')
    assert read_mission("mine") == read_mission("./mine") == {"model": "gpt2"}
    assert read_mission("gpt2") is None
    assert read_mission("config.json") is None
    assert read_mission(str(tmp_path)) is None
    assert read_mission("x" * 5000) is None
    assert read_mission("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = 'x'\nmodle = 'x'\nmodel = 'x'\n", "line 2: unknown key 'modle' above"),
        ("model = 'x'\n\n[data]\ntokns = 5\n", "line 4: .*'tokns' in .data.; did you mean tokens"),
        ("model = 'x'\ngpus = 8\n", r"line 2: .*it belongs in \[cluster\] or \[limits\]"),
        ("model = 'x'\n[clutser]\ngpus = 8\n", r"line 2: unknown table .*did you mean \[cluster\]"),
        ("model = 'x'\n['']\nmodel = 'y'\n", "line 2: unknown table "),
        ("model = 'x'\ndata = 3\n", r"line 2: write \[data\] above its keys"),
        ("title = 'x'\n", "lacks model"),
        ("model = 3\n", "line 1: model must be text in quotes, not 3"),
        ("model = ' '\n", "model must be text"),
        ("[model]\nname = 'x'\n", "model must be text"),
        ("model = 'x'\n[cluster]\ngpus = 'many'\n", "line 3: cluster.gpus must be"),
        ("model = 'x'\n[cluster]\ngpus = 8.5\n", "line 3: cluster.gpus must be"),
        ("model = 'x'\n[cluster]\ngpus = true\n", "line 3: cluster.gpus must be"),
        ("model = 'x'\n[cluster]\ngpus = [8]\n", "line 3: cluster.gpus must be"),
        ("model = 'x'\n[cluster]\ngpus = -8\n", "line 3: cluster.gpus .*did you mean 8"),
        (f"model = 'x'\n[cluster]\ngpus = 0x{'f' * 6000}\n", "line 3: cluster.gpus must be"),
        ("model = 'x'\n[limits]\nmemory = '80 MW'\n", "limits.memory .* such as 24 GB"),
        ("model = 'x'\n[limits]\npower = '3 GB'\n", "limits.power .* such as 30 MW"),
        ("model = 'x'\n[fix]\nzero = 4\n", "line 3: fix.zero must be 0, 1, 2 or 3, not 4"),
        ("model = 'x'\n[fix]\nrecompute = 1\n", "line 3: fix.recompute must be a word"),
        ("model = 'x'\n[fix]\ntp = true\n", "line 3: fix.tp must be"),
        ("model = 'x'\n[data]\nglobal_batch = 1\nglobal_batch_tokens = 2\n", "say the same"),
        ("modle = 'x'\n[data]\nfoo = 1\n", r"and 2 more: crore check "),
        ("model = \n", r"mine\.toml is not valid TOML: .*line 1"),
    ],
)
def test_a_broken_file_names_the_line_and_the_key(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as caught:
        mission(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        read_mission(str(tmp_path / "none.toml"))


def test_lines_inside_long_strings_are_no_keys():
    text = 'note = """\n[data]\ntokens = 1\n"""\n[data] # words\n"tokens" = 2\nfix.tp = 3\n'
    assert key_lines(text) == {"note": 1, "data": 5, "data.tokens": 6, "data.fix.tp": 7}


@given(st.text(alphabet="abz[]='\"# \n.", max_size=60))
def test_any_text_has_lines_within_it(text):
    assert all(1 <= line <= len(text.splitlines()) for line in key_lines(text).values())


def test_the_guide_documents_every_key_and_no_other():
    table = GUIDE.read_text(encoding="utf-8").partition("## Every key")[2]
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", table, re.MULTILINE)
    keys = [dotted(table, key) for table, known in TABLES.items() for key in known]
    assert [key for key, _ in rows] == keys
    for key, cells in rows:
        kind, unit, default, meaning = (cell.strip() for cell in cells.split("|"))
        assert all((kind, unit, default, meaning)), key
