"""`crore simulate` reads a plan or makes one; what it cannot do is one line and no file."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crore.cli import run

MOST_BYTES = 20_000_000
PLANS = {
    "one.json": "llama-3.1-8b --gpu h100-sxm --gpus 64 --tokens 100B",
    "fleet.json": (
        "llama-3.1-8b --gpu h100-sxm --gpus 16000 --tokens 10T --stack crore --fix islands=2 "
        "--limit world_gpus=8k"
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plan files, made once."""
    folder: Path = tmp_path_factory.mktemp("plans")
    for name, words in PLANS.items():
        assert run(["plan", *words.split(), "-o", str(folder / name)]) == 0
    return folder


@pytest.fixture(autouse=True)
def folder(made, tmp_path, monkeypatch):
    """Work in a folder of its own with the plans in it."""
    for name in PLANS:
        shutil.copy(made / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(words: str) -> int:
    """Run the command with few draws."""
    return run(["simulate", *words.split(), *([] if "--draws" in words else ["--draws", "20"])])


def trace(path: Path) -> dict[str, Any]:
    """Return a Chrome trace, every slice of which has a time and a length."""
    assert path.stat().st_size <= MOST_BYTES
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    slices = [it for it in found["traceEvents"] if it["ph"] == "X"]
    assert slices
    for it in slices:
        assert it["ts"] >= 0
        assert it["dur"] >= 0
        assert {"name", "pid", "tid"} <= it.keys()
    assert {it["ph"] for it in found["traceEvents"]} <= {"X", "M"}
    assert found["otherData"]
    return found


@pytest.mark.parametrize("target", ["one.json", "fleet.json", "baichuan_mini.toml"])
def test_a_plan_file_or_a_mission_is_drawn(folder, capsys, target):
    (folder / "baichuan_mini.toml").write_text(
        'model = "baichuan-13b"\n[data]\ntokens = "10B"\n[cluster]\ngpu = "h100-sxm"\ngpus = 16\n',
        encoding="utf-8",
    )
    assert simulate(target) == 0
    out, err = capsys.readouterr()
    assert out.startswith("FINISHES  in ")
    assert err == ""


def test_a_mission_of_the_catalogue_is_planned_and_drawn(capsys):
    assert simulate("llama3_405b --json") == 0
    assert json.loads(capsys.readouterr().out)["gpus"] == 16_384


def test_the_same_goes_to_the_file_and_to_stdout(capsys):
    assert simulate("fleet.json --json -o done.json --seed 5") == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads(Path("done.json").read_text(encoding="utf-8"))
    assert shown == kept
    assert shown["schema"] == "crore.simulation/1"
    assert (shown["draws"], shown["seed"], shown["policy"]) == (20, 5, "islands-quorum")


def test_a_seed_gives_the_same_answer_again(capsys):
    told = []
    for seed in (1, 1, 2):
        assert simulate(f"fleet.json --json --seed {seed}") == 0
        told.append({**json.loads(capsys.readouterr().out), "cpu_s": 0, "seed": 0, "command": ""})
    assert told[0] == told[1] != told[2]


def test_a_run_that_stands_still_is_exit_code_1_and_told_in_full(capsys):
    assert simulate("fleet.json --hazard 1e5 --policy restart-disk -o done.json") == 1
    out, err = capsys.readouterr()
    assert out.startswith("STANDS STILL  restart-disk")
    assert err == ""
    assert json.loads(Path("done.json").read_text(encoding="utf-8"))["stands_still"] is True


def test_hazard_0_is_no_failure(capsys):
    assert simulate("fleet.json --hazard 0 --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hazard"] == 0
    assert found["losses"]["stall"] == found["losses"]["stragglers"] == 0
    assert found["step"]["fleet"]["stragglers"] == 0


@pytest.mark.parametrize("policy", ["hot-spares", "islands-free"])
def test_another_policy_is_drawn_when_asked_for(capsys, policy):
    assert simulate(f"fleet.json --policy {policy} --json") == 0
    assert json.loads(capsys.readouterr().out)["policy"] == policy


@pytest.mark.parametrize("plan", PLANS)
def test_a_step_is_a_trace(plan):
    assert simulate(f"{plan} --trace step.json") == 0
    found = trace(Path("step.json"))
    assert max(it["ts"] + it["dur"] for it in found["traceEvents"] if it["ph"] == "X") > 0


@pytest.mark.parametrize("plan", PLANS)
def test_a_timeline_is_a_trace_of_so_many_days(plan):
    assert simulate(f"{plan} --timeline days.json --days 400 --hazard 3") == 0
    found = trace(Path("days.json"))
    starts = [it["ts"] for it in found["traceEvents"] if it["ph"] == "X"]
    assert 300 * 86_400e6 < max(starts) <= 400 * 86_400e6


def test_a_timeline_is_of_the_hazard_asked_for():
    counts = []
    for hazard in (0, 1, 10):
        assert simulate(f"fleet.json --timeline days.json --days 30 --hazard {hazard}") == 0
        names = [it["name"] for it in trace(Path("days.json"))["traceEvents"] if it["ph"] == "X"]
        counts.append(sum(name not in ("site outage", "maintenance") for name in names))
    assert counts[0] == 0
    assert counts[2] == pytest.approx(10 * counts[1], rel=0.2)


def test_the_largest_timeline_stays_small():
    """Ten years at a thousand times the hazard: told by the hour and island."""
    simulate("fleet.json --draws 1 --timeline days.json --days 3650 --hazard 1000")
    assert 1_000_000 < Path("days.json").stat().st_size <= MOST_BYTES


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("one.json --draws 0", "--draws must be 1 to 100,000, not 0"),
        ("one.json --draws 100001", "--draws must be 1 to 100,000, not 100001"),
        ("one.json --draws few", "'--draws'"),
        ("one.json --seed -1", "--seed must be 0 or more, not -1"),
        ("one.json --seed 1.5", "'--seed'"),
        ("one.json --hazard nan", "--hazard must be 0 to 1,000,000, not nan"),
        ("one.json --hazard -1", "--hazard must be 0 to 1,000,000, not -1"),
        ("one.json --hazard inf", "--hazard must be 0 to 1,000,000, not inf"),
        ("one.json --hazard much", "'--hazard'"),
        ("one.json --days 0", "--days must be above 0 and at most 3650, not 0"),
        ("one.json --days nan", "--days must be above 0 and at most 3650, not nan"),
        ("one.json --days 4000", "--days must be above 0 and at most 3650, not 4000"),
        ("one.json --policy islands-fre", "did you mean islands-free"),
        ("one.json --policy quorum", "--policy quorum needs several worlds: the plan has one"),
        ("one.json --policy elastic", "--policy elastic needs several worlds: the plan has one"),
        ("one.json --policy islands-free", "needs several islands: the plan has one"),
        ("one.json --catalog own.toml", "--catalog would need another plan"),
        ("one.json --trace=", "the file name is empty"),
        ("one.json --gpus 8", "no option --gpus for crore simulate"),
        ("none.json", "no file none.json; did you mean one.json"),
        ("fit.json", "fit.json must hold schema crore.plan, not crore.fit/1"),
        ("newer.json", "install a newer crore"),
        ("bare.json", "bare.json lacks request"),
        ("broken.json", "broken.json is not valid JSON"),
        ("halved.json", "halved.json is damaged: worlds must be a number above 0, not None"),
        ("batch.json", "batch.json is damaged: global_batch_tokens must be a number above 0"),
        ("spares.json", "the plan is damaged (spares must be a number 0 or more, not -1)"),
        ("layout.json", "the plan's layout"),
        ("llama3_405", "(or did you mean the mission llama3_405b?)"),
        ("gpt2", "gpt2 names no machines: crore plan gpt2 --gpu G --gpus N -o plan.json, then"),
        ("none.toml", "no file none.toml"),
        ("", "Missing argument"),
    ],
)
def test_what_is_wrong_is_one_line_and_no_file(folder, capsys, words, says):
    plan = json.loads((folder / "one.json").read_text(encoding="utf-8"))
    layout = {key: value for key, value in plan["layout"].items() if key != "micro_batches"}
    for name, document in {
        "fit": {"schema": "crore.fit/1"},
        "newer": {**plan, "schema": "crore.plan/99"},
        "bare": {"schema": "crore.plan/1"},
        "halved": {**plan, "worlds": None},
        "batch": {**plan, "global_batch_tokens": 0},
        "spares": {**plan, "spares": -1},
        "layout": {**plan, "layout": layout},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "broken.json").write_text("{", encoding="utf-8")
    before = sorted(folder.iterdir())
    assert simulate(f"{words} -o out.json --timeline days.json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith("crore: ")
    assert err.count("\n") == 1
    assert len(err.rstrip("\n")) <= 240
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("flag", ["-o", "--trace", "--timeline"])
@pytest.mark.parametrize("named", ["one.json", "./one.json", "link.json"])
def test_a_simulation_overwrites_nothing_it_was_made_from(folder, capsys, flag, named):
    (folder / "link.json").hardlink_to(folder / "one.json")
    kept = Path("one.json").read_bytes()
    assert simulate(f"one.json {flag} {named}") == 2
    assert "is read here and would be lost" in capsys.readouterr().err
    assert Path("one.json").read_bytes() == kept


def test_a_catalogue_and_a_mission_file_are_kept_too(capsys):
    Path("own.toml").write_text("", encoding="utf-8")
    Path("mine.toml").write_text(
        'model = "gpt2"\n[data]\ntokens = "1B"\n[cluster]\ngpu = "h100-sxm"\ngpus = 8\n',
        encoding="utf-8",
    )
    for output in ("own.toml", "mine.toml"):
        kept = Path(output).read_bytes()
        assert simulate(f"mine.toml --catalog own.toml -o {output}") == 2
        assert "is read here and would be lost" in capsys.readouterr().err
        assert Path(output).read_bytes() == kept


@pytest.mark.parametrize(
    "words", ["-o a.json --trace a.json", "--trace ./a.json --timeline a.json"]
)
def test_two_outputs_do_not_share_a_file(capsys, words):
    assert simulate(f"one.json {words}") == 2
    assert "each needs a file of its own" in capsys.readouterr().err
    assert not Path("a.json").exists()


def test_ctrl_c_while_it_draws_is_130_and_no_file(folder, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr("crore.simulate.run.whole.run_distribution", stopped)
    words = "one.json -o done.json --trace step.json --timeline days.json"
    assert simulate(words) == 130
    assert capsys.readouterr().out == ""
    assert sorted(folder.iterdir()) == before


DRAWING = """
import sys
from crore.cli import run
from crore.simulate.run import whole

drawn = whole.run_distribution

def told(*given, **named):
    print("drawing", file=sys.stderr, flush=True)
    return drawn(*given, **named)

whole.run_distribution = told
sys.exit(run(sys.argv[1:]))
"""
"""The command, saying when it begins to draw."""


def test_ctrl_c_sent_to_the_process_is_130_and_no_file(folder):
    before = sorted(folder.iterdir())
    words = "simulate fleet.json --draws 100000 -o done.json --trace step.json"  # takes minutes
    command = [sys.executable, "-c", DRAWING, *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"drawing\n"
        time.sleep(0.2)  # into the draws
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == b""
    assert set(err.splitlines()) <= {b"drawing"}
    assert sorted(folder.iterdir()) == before
