"""A run's numbers for those who watch elsewhere: TensorBoard and trackio, both optional."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from crore.errors import InputError, UnknownName
from crore.train.lines import line_of
from crore.train.records import Checkpoint, End, Eval, Event, Sample, Start, Step

PROJECT: Final = "crore"
"""What trackio files the runs under."""


class Sink(Protocol):
    """A place for numbers and texts by step."""

    def open(self, start: Start) -> None:
        """Begin, or go on after `start.step`."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers by name."""

    def text(self, step: int, name: str, text: str) -> None:
        """Take a text."""

    def back_to(self, step: int) -> None:
        """Take back what came after a step, where the place can."""

    def close(self) -> None:
        """Write what is held."""


class Adapter:
    """Tells a sink what it hears; a `Listener`.

    A sink that fails does not end the training: `on_error` is told, and the sink no more.
    """

    def __init__(self, name: str, sink: Sink, on_error: Callable[[str], None]) -> None:
        self._name, self._on_error = name, on_error
        self._sink: Sink | None = sink

    def start(self, record: Start) -> None:
        """Open the sink."""
        self._do(lambda sink: sink.open(record))

    def step(self, record: Step) -> None:
        """Pass on a step's numbers."""
        self._do(lambda sink: sink.numbers(record.step, step_numbers(record)))

    def eval(self, record: Eval) -> None:
        """Pass on an evaluation."""
        values = {"loss": record.loss, "bits_per_byte": record.bits_per_byte}
        self._do(lambda sink: sink.numbers(record.step, _known("validation", values)))

    def sample(self, record: Sample) -> None:
        """Pass on a text."""
        self._do(lambda sink: sink.text(record.step, "sample", record.prompt + record.text))

    def checkpoint(self, record: Checkpoint) -> None:
        """Pass on what a checkpoint took."""
        values = {"bytes": record.bytes, "write_s": record.write_s, "blocked_s": record.blocked_s}
        self._do(lambda sink: sink.numbers(record.step, _known("checkpoint", values)))

    def event(self, record: Event) -> None:
        """Pass on an event; a roll back takes back, too."""
        if record.what == "roll back":
            self._do(lambda sink: sink.back_to(record.step))
        self._do(lambda sink: sink.text(record.step, "event", f"{record.what}: {record.message}"))

    def end(self, record: End) -> None:
        """Pass on why the run ends."""
        why = f"end: {record.reason} {record.message}".rstrip()
        self._do(lambda sink: sink.text(record.step, "event", why))

    def close(self) -> None:
        """Close the sink."""
        self._do(lambda sink: sink.close())
        self._sink = None

    def _do(self, what: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            what(self._sink)
        except Exception as error:
            self._sink = None
            kind = type(error).__name__
            self._on_error(f"--log {self._name} is off: {kind}: {error}"[:200])


def step_numbers(it: Step) -> dict[str, float]:
    """Return the numbers of a step by the name of their chart."""
    return {
        **_known("train", {"loss": it.loss, "bits_per_byte": it.bits_per_byte,
                           "grad_norm": it.grad_norm, "lr": it.lr}),
        **_known("speed", {"step_time_s": it.step_time_s, "tokens_per_s": it.tokens_per_s,
                           "predicted_step_time_s": it.predicted_step_time_s, "mfu": it.mfu}),
        **_known("memory", {"bytes": it.memory_bytes}),
    }  # fmt: skip


def _known(group: str, values: Mapping[str, float | None]) -> dict[str, float]:
    """Return what is known and finite: charts have no place for the rest."""
    return {f"{group}/{k}": v for k, v in values.items() if v is not None and math.isfinite(v)}


class TensorBoard:
    """Event files in a folder, for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make = _package("tensorboard", "torch.utils.tensorboard").SummaryWriter
        self._writer: Any = None

    def open(self, start: Start) -> None:
        """Begin new event files; those of a resume hide what came after its step."""
        self._writer = self._make(self._folder, purge_step=start.step + 1 if start.step else None)
        self._writer.add_text("start", f"```\n{line_of(start)}```", start.step)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each chart."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text, its lines kept."""
        self._writer.add_text(name, f"```\n{text}\n```", step)

    def back_to(self, step: int) -> None:
        """Begin new event files that hide what came after a step."""
        self._writer.close()
        self._writer = self._make(self._folder, purge_step=step + 1)

    def close(self) -> None:
        """Write what is held."""
        if self._writer is not None:
            self._writer.close()


class Trackio:
    """A run of trackio, for `trackio show`; it keeps points that a resume or roll back redoes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._trackio = _package("trackio", "trackio")
        self._open = False

    def open(self, start: Start) -> None:
        """Begin a run, or go on with the one of this name."""
        config = asdict(start)
        self._trackio.init(project=PROJECT, name=self._name, config=config, resume="allow")
        self._open = True

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._trackio.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """Log a text."""
        self._trackio.log({name: text}, step=step)

    def back_to(self, step: int) -> None:
        """Nothing that was logged can be taken back."""

    def close(self) -> None:
        """Send what is held."""
        if self._open:
            self._trackio.finish()


def _package(name: str, module: str) -> Any:
    """Import an optional package; raises `InputError` with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"--log {name} needs {name}: pip install {name}") from error


_MAKERS: Final[Mapping[str, Callable[[Path], Sink]]] = {
    "tensorboard": lambda folder: TensorBoard(folder / "tensorboard"),
    "trackio": lambda folder: Trackio(folder.resolve().name),
}
ADAPTERS: Final = tuple(_MAKERS)
"""What `--log` takes."""


def make_adapters(
    names: Sequence[str], folder: Path, on_error: Callable[[str], None]
) -> list[Adapter]:
    """Return the adapters of the names that `--log` gives, for the run in `folder`.

    Raises `UnknownName` for another name, `InputError` for a package that is not installed.
    """
    for name in names:
        if name not in _MAKERS:
            raise UnknownName("--log", name, ADAPTERS)
    return [Adapter(name, _MAKERS[name](folder), on_error) for name in dict.fromkeys(names)]
