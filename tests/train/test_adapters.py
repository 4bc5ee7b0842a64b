"""Adapters pass on the numbers of the records, and never end a training."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from tests.train.feed import CHECKPOINT, END, EVAL, SAMPLE, START, STEP, run_of, tell

from crore.errors import InputError, UnknownName
from crore.train.adapters import make_adapters, step_numbers
from crore.train.records import Event

BACK = Event(step=2, what="roll back", message="loss spike", first_sample=16, samples=8)


class Fake:
    """Remembers every call, by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str):
        def called(*words: Any, **named: Any) -> Fake:
            self.calls.append((name, words, named))
            return self

        return called

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the arguments of all calls of one name."""
        return [(words, named) for called, words, named in self.calls if called == name]


@pytest.fixture
def trackio(monkeypatch):
    made = Fake()
    monkeypatch.setitem(sys.modules, "trackio", made)
    return made


@pytest.fixture
def tensorboard(monkeypatch):
    made = Fake()
    module = SimpleNamespace(SummaryWriter=made.SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    made.calls.clear()
    return made


def test_trackio_hears_the_numbers_of_each_step(trackio, tmp_path):
    [adapter] = make_adapters(["trackio"], tmp_path / "small", pytest.fail)
    tell(adapter, START, *run_of(1, 2), EVAL, SAMPLE, CHECKPOINT, BACK, END)
    adapter.close()
    [(_, opened)] = trackio.named("init")
    assert (opened["project"], opened["name"], opened["resume"]) == ("crore", "small", "allow")
    assert opened["config"]["prediction"]["step_time_s"] == 0.39
    logged = trackio.named("log")
    assert logged[0] == ((step_numbers(next(iter(run_of(1, 1)))),), {"step": 1})  # type: ignore[arg-type]
    assert logged[2] == (
        ({"validation/loss": 9.0, "validation/bits_per_byte": 3.3},),
        {"step": 0},
    )
    assert [words[0] for words, _ in logged[-2:]] == [
        {"event": "roll back: loss spike"},
        {"event": "end: finished"},
    ]
    assert len(trackio.named("finish")) == 1


def test_tensorboard_hides_what_a_resume_or_roll_back_redoes(tensorboard, tmp_path):
    [adapter] = make_adapters(["tensorboard"], tmp_path, pytest.fail)
    tell(adapter, replace(START, step=10), STEP, SAMPLE, BACK)
    adapter.close()
    made = tensorboard.named("SummaryWriter")
    assert made == [
        ((tmp_path / "tensorboard",), {"purge_step": 11}),
        ((tmp_path / "tensorboard",), {"purge_step": 3}),
    ]
    assert ("train/loss", 9.01, 1) in [words for words, _ in tensorboard.named("add_scalar")]
    assert len(tensorboard.named("close")) == 2


def test_what_is_unknown_or_not_finite_is_left_out():
    numbers = step_numbers(replace(STEP, loss=float("nan"), grad_norm=float("inf")))
    assert {"train/loss", "train/grad_norm", "speed/mfu"}.isdisjoint(numbers)
    assert numbers["speed/predicted_step_time_s"] == 0.39
    assert step_numbers(replace(STEP, mfu=0.4))["speed/mfu"] == 0.4


def test_a_sink_that_fails_is_told_of_once_and_training_goes_on(monkeypatch, tmp_path):
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=Fake().init, log=fail))
    told: list[str] = []
    [adapter] = make_adapters(["trackio"], tmp_path, told.append)
    tell(adapter, replace(START), *run_of(1, 20))
    adapter.close()
    assert told == ["--log trackio is off: ConnectionError: no route to host"]


@pytest.mark.parametrize(
    ("name", "module"), [("trackio", "trackio"), ("tensorboard", "torch.utils.tensorboard")]
)
def test_a_missing_package_is_one_line_that_installs_it(monkeypatch, tmp_path, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"needs {name}: pip install {name}$"):
        make_adapters([name], tmp_path, pytest.fail)


def test_another_name_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="did you mean tensorboard"):
        make_adapters(["tensorbord"], tmp_path, pytest.fail)


def test_each_is_made_once_and_only_when_asked_for(trackio, tmp_path):
    assert make_adapters([], tmp_path, pytest.fail) == []
    assert len(make_adapters(["trackio", "trackio"], tmp_path, pytest.fail)) == 1
    assert trackio.calls == []


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_event_files_of_tensorboard_hold_the_run(tmp_path):
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    [first] = make_adapters(["tensorboard"], tmp_path, pytest.fail)
    tell(first, START, *run_of(1, 12))
    first.close()
    [second] = make_adapters(["tensorboard"], tmp_path, pytest.fail)
    tell(second, replace(START, step=10), *run_of(11, 14), BACK, *run_of(3, 4), END)
    second.close()
    found = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [it.step for it in found.Scalars("train/loss")] == [1, 2, 3, 4]
