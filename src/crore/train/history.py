"""What happened in a run, read from run.jsonl: one uninterrupted history, however often resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from crore.errors import InputError
from crore.train.lines import record_of
from crore.train.records import Checkpoint, End, Eval, Event, Record, Sample, Start, Step

HAPPENED: Final = frozenset(("resume", "signal", "hang", "lost rank", "disk full",
                             "damaged checkpoint", "joined", "lost world", "chaos",
                             "fenced", "note"))  # fmt: skip
"""Events that stay true whatever a resume takes back: they tell how the run fared."""
_T = TypeVar("_T", bound=Record)
_L = TypeVar("_L")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The records of a run, each kind in the order of the file."""

    records: tuple[Record, ...]

    @property
    def start(self) -> Start:
        """The last start: how the run goes on now."""
        return self._of(Start)[-1]

    @property
    def starts(self) -> tuple[Start, ...]:
        """The first start and one for each resume that got further than a step."""
        return self._of(Start)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Optimizer steps, each once."""
        return self._of(Step)

    @property
    def evals(self) -> tuple[Eval, ...]:
        """Evaluations."""
        return self._of(Eval)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Texts that the model wrote."""
        return self._of(Sample)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Checkpoints that were complete; old ones may be gone by now."""
        return self._of(Checkpoint)

    @property
    def events(self) -> tuple[Event, ...]:
        """What was out of the ordinary."""
        return self._of(Event)

    @property
    def end(self) -> End | None:
        """How it ended; None for a run that goes on or was killed."""
        ends = self._of(End)
        return ends[-1] if ends else None

    def _of(self, kind: type[_T]) -> tuple[_T, ...]:
        return tuple(record for record in self.records if isinstance(record, kind))


def read_run(path: Path) -> Run:
    """Read a run.jsonl; the torn last line of a killed writer is left out.

    Raises `InputError` for a missing file, a line that is no record, and a run without a start.
    """
    records = tuple(record for _, record in rolled_back(read_lines(path)))
    if not records or not isinstance(records[0], Start):
        raise InputError(f"{path.name} must begin with a start record: is it a run.jsonl?")
    return Run(records=records)


def read_lines(path: Path) -> list[tuple[str, Record]]:
    """Return the whole lines of a run.jsonl, each with the record it holds."""
    try:
        whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start})") from error
    except FileNotFoundError as error:
        raise InputError(f"no file {str(path)[-80:]}") from error
    except OSError as error:
        raise InputError(f"cannot read {str(path)[-80:]}: {error.strerror}") from error
    numbered = enumerate(whole.split("\n"), start=1)
    return [(line, record_of(line, f"{path.name}:{n}")) for n, line in numbered if line.strip()]


def roll_back(told: Iterable[tuple[_L, Record]], step: int) -> list[tuple[_L, Record]]:
    """Return what still holds when the process that told it goes back to `step`.

    `told` is (anything, record) in the order of the file; so in the functions below.
    """
    return [pair for pair in told if _survives(pair[1], step)]


def rolled_back(told: Iterable[tuple[_L, Record]]) -> list[tuple[_L, Record]]:
    """Return what no later roll back takes back, for a file that a full disk kept from it."""
    kept: list[tuple[_L, Record]] = []
    for pair in told:
        if isinstance(pair[1], Event) and pair[1].what == "roll back":
            kept = roll_back(kept, pair[1].step)
        kept.append(pair)
    return kept


def resumed(told: Iterable[tuple[_L, Record]], step: int) -> list[tuple[_L, Record]]:
    """Return what still holds when a new process goes on from the checkpoint of `step`.

    A start or roll back at `step` itself goes: the checkpoint is older, nothing kept follows it.
    """
    kept = roll_back(rolled_back(told), step)
    return [pair for pair in kept if not _is_after(pair[1], step)]


def _survives(record: Record, step: int) -> bool:
    match record:
        case Event(what=what) if what in HAPPENED:
            return True
        case Event(what="roll back"):
            return record.step < step
        case _:
            return record.step <= step


def _is_after(record: Record, step: int) -> bool:
    """Return whether a record tells of what came after the checkpoint of its own step."""
    return isinstance(record, End) or (isinstance(record, Start) and record.step >= step)


def gaps(records: Iterable[Record]) -> list[str]:
    """Return what is wrong with the order of steps and samples; empty when each is there once.

    Samples that a roll back set aside count as used: they are never trained on again.
    """
    told = list(records)
    aside = {it.step: it for it in told if isinstance(it, Event) and it.what == "roll back"}
    return list(_gaps([it for it in told if isinstance(it, Step)], aside))


def _gaps(steps: Sequence[Step], aside: dict[int, Event]) -> Iterator[str]:
    step, sample = 0, 0
    for it in steps:
        if (event := aside.get(step)) and event.samples is not None:
            sample = (event.first_sample or 0) + event.samples
        if it.step != step + 1:
            yield f"step {it.step} follows step {step}"
        if it.first_sample != sample:
            yield f"step {it.step} begins at sample {it.first_sample}, not {sample}"
        step, sample = it.step, it.first_sample + it.samples
