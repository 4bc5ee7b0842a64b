"""What was measured is written and read back whole; what is no calibration is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.machines import calibration, setting

from crore.catalog import load_catalog
from crore.catalog.accelerators import best_product
from crore.catalog.calibration import calibration_path, find_calibration, read_calibration
from crore.catalog.calibration_text import calibration_text
from crore.errors import InputError, UnknownName


@pytest.fixture
def write(tmp_path):
    """Write a calibration, its text changed by a function."""

    def _write(change=lambda text: text, made=None):
        path = tmp_path / "calibration.toml"
        path.write_text(change(calibration_text(made or calibration())), encoding="utf-8")
        return path

    return _write


@pytest.mark.parametrize("seed", range(3))
def test_reading_gives_what_was_written(seed, write):
    made = calibration(seed, name='An "odd" name \\ é')
    assert read_calibration(write(made=made)) == made


def test_what_only_whole_steps_tell_is_kept_and_older_files_lack_it(write):
    made = calibration(spread=0.03, settings=(setting(2, 1, shard_s=2e-3, step_factor=1.07),))
    assert read_calibration(write(made=made)) == made

    def older(text):
        keys = ("spread", "shard_s", "step_factor")
        return "\n".join(line for line in text.split("\n") if not line.startswith(keys))

    found = read_calibration(write(older, made))
    assert found.spread == -1.0
    assert (found.settings[0].shard_s, found.settings[0].step_factor) == (0.0, 1.0)


def test_what_llama_cpp_reads_is_kept_and_a_file_without_it_has_none(write):
    made = calibration(read_bytes_per_s={"fp16": 2.4e10, "q8_0": 1.6e10, "q4_0": 1.5e10})
    assert read_calibration(write(made=made)) == made
    assert read_calibration(write()).read_bytes_per_s == {}
    with pytest.raises(InputError, match="lacks q4_0"):
        read_calibration(write(lambda text: text.replace(", q4_0 = 15000000000.0", ""), made))
    with pytest.raises(InputError, match="fp16 is a number from 1, not 0"):
        read_calibration(write(lambda text: text.replace("fp16 = 24000000000.0", "fp16 = 0"), made))


@pytest.mark.parametrize(
    ("written", "typo", "near"),
    [
        ("launch_s =", "lanch_s =", "launch_s"),
        ("[setting.messages.all_gather]", "[setting.messages.all_gathr]", "all_gather"),
        ("hot_s =", "hott_s =", "hot_s"),
        ("process_bytes =", "proces_bytes =", "process_bytes"),
        ("[setting.products.fp32]", "[setting.products.fp23]", "fp32"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(written, typo, near, write):
    with pytest.raises(UnknownName, match=near):
        read_calibration(write(lambda text: text.replace(written, typo, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("calibration/1", "calibration/9"), "reads 1: measure again"),
        (lambda t: t.replace("crore.calibration/1", "crore.plan/1"), "is no calibration file"),
        (lambda t: t.partition("[[setting]]")[0], "lacks setting"),
        (lambda t: t.replace("cores = 2", "cores = 0", 1), "cores is a number from 1, not 0"),
        (lambda t: t.replace('"cpu"', '"tpu"', 1), "device is cpu or cuda, not 'tpu'"),
        (lambda t: t.replace("m = [256.0, 2048.0]", "m = [2048.0, 256.0]", 1), "m must rise"),
        (lambda t: t.replace("m = [256.0, 2048.0]", "m = [256.0]", 1), "18 numbers for 9 points"),
        (lambda t: t.replace("m = [256.0, 2048.0]", "m = [-1.0, 2048.0]", 1), "above 0"),
        (lambda t: t.replace("m = [256.0, 2048.0]", "m = 256.0", 1), "a list of numbers"),
        (lambda t: t.replace("launch_s = 2e-06", 'launch_s = "2"', 1), "launch_s is a number"),
        (lambda t: t.replace("threads = 2", "", 1), "lacks threads"),
        (lambda t: t.replace("step_factor = 1.0", "step_factor = 0", 1), "is a number from 0.1"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_is_wrong(change, message, write):
    with pytest.raises(InputError, match=message) as refused:
        read_calibration(write(change))
    assert len(str(refused.value)) <= 240


def test_it_is_found_in_the_working_folder_and_then_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_calibration() is None
    cached = calibration_path()
    cached.parent.mkdir(parents=True)
    cached.write_text(calibration_text(calibration()))
    assert find_calibration() == tmp_path / "cache" / "crore" / "calibration.toml"
    (tmp_path / "calibration.toml").write_text(calibration_text(calibration()))
    found = find_calibration()
    assert found is not None
    assert found.absolute() == tmp_path / "calibration.toml"


def test_this_machine_is_the_estimated_row_until_it_is_measured(monkeypatch, tmp_path, write):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("crore.catalog.load.find_calibration", find_calibration)
    unmeasured = load_catalog().accelerator("this-machine")
    assert unmeasured.measured is None
    assert unmeasured.peak_flops == load_catalog().accelerator("cpu-2core").peak_flops
    path = write()
    by_folder, by_flag = load_catalog(), load_catalog(path)
    for catalog in (by_folder, by_flag):
        found = catalog.accelerator("this-machine")
        assert found.title == "Two invented cores"
        assert found.measured is not None
        assert found.memory_bytes == 16e9
        assert found.peak_flops["fp32"] == best_product(found.measured.setting.products["fp32"])
        assert catalog.cluster("this-machine").accelerator == "this-machine"


def test_processes_share_a_cpu_and_never_a_card(write):
    catalog = load_catalog(write())
    machine = catalog.accelerator("this-machine")
    two, four = (catalog.shared(machine, processes) for processes in (2, 4))
    assert (two.memory_bytes, four.memory_bytes) == (8e9, 4e9)
    assert two.measured is not None
    assert four.measured is not None
    assert (two.measured.setting.processes, two.measured.crowding) == (2, 1.0)
    assert (four.measured.setting.processes, four.measured.crowding) == (2, 2.0)
    assert four.peak_flops["fp32"] == two.peak_flops["fp32"] / 2
    catalog = load_catalog(write(made=calibration(device="cuda")))
    card = catalog.accelerator("this-machine")
    assert not card.cpu
    shared = catalog.shared(card, 4)
    assert shared.memory_bytes == 16e9
    assert shared.measured is not None
    assert shared.measured.crowding == 1.0


def test_an_unmeasured_machine_is_shared_in_equal_parts():
    catalog = load_catalog()
    row = catalog.accelerator("this-machine")
    assert catalog.shared(row, 2).peak_flops["fp32"] == row.peak_flops["fp32"] / 2
    other = catalog.accelerator("rtx-3090")
    assert catalog.shared(other, 8) is other


def test_the_setting_of_fewer_processes_stands_in():
    made = calibration()
    assert [made.setting(count).processes for count in (1, 2, 3, 8)] == [1, 2, 2, 2]
    only_two = replace(made, settings=made.settings[1:])
    assert only_two.setting(1).processes == 2
