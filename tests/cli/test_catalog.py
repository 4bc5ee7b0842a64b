"""`crore catalog` lists what exists, and shows each entry whole, with its sources."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from crore.catalog import load_catalog
from crore.cli import run
from crore.cli.catalog import KINDS
from crore.cli.tables import WIDTH


def shown(capsys, *arguments):
    """Return what a command that succeeds prints."""
    assert run(["catalog", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_names_every_entry_and_fits_the_screen(kind, capsys):
    entries = json.loads(shown(capsys, kind, "--json"))[kind]
    lines = shown(capsys, kind).splitlines()
    assert [line.split()[0] for line in lines[1 : len(entries) + 1]] == [e["name"] for e in entries]
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1].startswith(f"{len(entries)} {kind}; ")


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_shows_every_figure_its_source_and_date(kind, capsys):
    entries = json.loads(shown(capsys, kind, "--json"))[kind]
    for entry in (entries[0], entries[-1]):
        text = shown(capsys, kind, entry["name"])
        words = set(text.replace(",", " ").split())
        assert set(entry) - {"name", "title", "provenance"} <= words
        flat = " ".join(text.split())
        assert " ".join(entry["provenance"]["source"].split()) in flat
        assert entry["provenance"]["date"] in flat
        assert set(entry["provenance"]["figures"]) <= words
        assert max(map(len, text.splitlines())) <= WIDTH + 60  # a long URL stays in one piece


def test_an_unverified_entry_is_marked_in_the_list(capsys):
    catalog = load_catalog()
    unverified = [n for n in catalog.models() if not catalog.model(n).provenance.verified]
    marked = [line.split()[0] for line in shown(capsys, "models").splitlines() if " ? " in line]
    assert marked == unverified


def test_a_models_parameters_are_counted(capsys):
    assert "405,853,388,800 (counted" in shown(capsys, "models", "llama-3.1-405b")
    [model] = json.loads(shown(capsys, "models", "baichuan-13b", "--json"))["models"]
    assert model["parameters"] == 13_264_901_120


def test_what_nobody_published_is_unknown_not_zero(capsys):
    catalog = load_catalog()
    gpus = [catalog.accelerator(name) for name in catalog.accelerators()]
    unpriced = next(gpu.name for gpu in gpus if not gpu.price_usd)
    lines = shown(capsys, "gpus", unpriced).splitlines()
    assert "unknown" in next(line for line in lines if line.startswith("price_usd"))


def test_an_alias_shows_the_entry_it_stands_for(capsys):
    catalog = load_catalog()
    name = next(n for n in catalog.models() if catalog.aliases("models", n))
    alias = catalog.aliases("models", name)[0]
    assert shown(capsys, "models", alias) == shown(capsys, "models", name)
    assert alias in shown(capsys, "models", name)


def test_json_carries_every_field_in_si(capsys):
    [gpu] = json.loads(shown(capsys, "gpus", "h100-sxm", "--json"))["gpus"]
    record = load_catalog().accelerator("h100-sxm")
    assert set(gpu) == {field.name for field in fields(record)}
    assert gpu["memory_bytes"] == record.memory_bytes


def test_the_rate_of_a_part_without_bf16_is_not_called_bf16(capsys):
    header, first, *_ = shown(capsys, "gpus").splitlines()
    assert "16-bit TF/s" in header
    assert first.split()[3] == "125"  # the V100's fp16
    assert "bf16" not in header


def test_a_row_with_a_zero_that_cannot_work_is_refused(tmp_path, capsys):
    own = tmp_path / "own.toml"
    row = '[accelerators.x]\nbase = "h100-sxm"\nsource = "us"\ndate = "2026"\n'
    own.write_text(row + "memory_tb_per_s = 0\n")
    assert run(["catalog", "gpus", "--catalog", str(own)]) == 2
    expected = "crore: GPU 'x': memory_tb_per_s is a number > 0, not 0\n"
    assert capsys.readouterr().err == expected


def test_a_users_own_rows_are_listed(tmp_path, capsys):
    own = tmp_path / "own.toml"
    own.write_text(
        '[accelerators.my-gpu]\nbase = "h100-sxm"\nsource = "measured here"\ndate = "2026"\n'
    )
    assert "my-gpu" in shown(capsys, "gpus", "--catalog", str(own))
    assert "measured here" in shown(capsys, "gpus", "my-gpu", "--catalog", str(own))
