"""`crore calibrate` writes one file, whole, or none."""

from __future__ import annotations

import pytest
from tests.machines import calibration

from crore.catalog.calibration import read_calibration
from crore.cli import run


@pytest.fixture
def measured(monkeypatch):
    """Let measuring end at once, with what the test says."""

    monkeypatch.setattr("crore.serve.measure.read_rates", dict)

    def _measured(made=None, error=None):
        def measure(processes, watch):
            del processes, watch
            if error:
                raise error
            return made or calibration()

        monkeypatch.setattr("crore.train.calibrate.calibrate", measure)

    return _measured


def test_it_writes_where_it_is_told(measured, tmp_path, capsys):
    measured()
    path = tmp_path / "mine.toml"
    assert run(["calibrate", "-o", str(path)]) == 0
    assert read_calibration(path) == calibration()
    assert f"Wrote {path}" in capsys.readouterr().out


@pytest.mark.parametrize(("device", "kept"), [("cpu", True), ("cuda", False)])
def test_what_llama_cpp_reads_of_a_cpus_memory_is_written_too(
    device, kept, measured, tmp_path, monkeypatch
):
    rates = {"fp16": 2.4e10, "q8_0": 1.6e10, "q4_0": 1.5e10}
    measured(calibration(device=device))
    monkeypatch.setattr("crore.serve.measure.read_rates", lambda: rates)
    assert run(["calibrate", "-o", str(tmp_path / "a.toml")]) == 0
    assert read_calibration(tmp_path / "a.toml").read_bytes_per_s == (rates if kept else {})


def test_it_writes_to_the_users_cache_by_default(measured, tmp_path, monkeypatch):
    measured()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert run(["calibrate"]) == 0
    assert read_calibration(tmp_path / "new" / "crore" / "calibration.toml") == calibration()


@pytest.mark.parametrize(
    ("spread", "told"),
    [(0.13, "disagree by 13 %: something else ran"), (0.03, "agree within 3.0 %"), (-1.0, "")],
)
def test_it_says_how_far_its_rounds_agree(spread, told, measured, tmp_path, capsys):
    measured(calibration(load=3.0, spread=spread))
    assert run(["calibrate", "-o", str(tmp_path / "a.toml")]) == 0
    printed = capsys.readouterr().out
    assert told in printed
    assert ("rounds" in printed) == bool(told)
    assert read_calibration(tmp_path / "a.toml").load == 3.0


def test_an_interrupt_leaves_nothing_and_keeps_what_was_there(measured, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("before", encoding="utf-8")
    measured(error=KeyboardInterrupt())
    assert run(["calibrate", "-o", str(path)]) == 130
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_count_that_is_not_there_is_one_line(capsys, tmp_path):
    assert run(["calibrate", "--processes", "4096", "-o", str(tmp_path / "a.toml")]) == 2
    assert "--processes is 1 to" in capsys.readouterr().err
