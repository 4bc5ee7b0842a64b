"""Measure this machine: one setting per number of processes, all of a setting at the same time."""

from __future__ import annotations

import contextlib
import datetime as dt
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from crore.catalog.calibration import PASSES, Calibration, Setting
from crore.errors import InputError
from crore.train.calibrate.remainder import with_remainder, zero_stages
from crore.train.calibrate.worker import Task, serve

Watch = Callable[[float, str], None]
"""Called with the share done and what is measured next."""
MOST_PROCESSES: Final = 64
START_S: Final = 120.0
"""A worker that has not imported torch by then never will."""
ROUNDS: Final = 2
"""Times that everything is measured, so that a moment's disturbance is not taken for the rate."""
_CPU_INFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The machine as torch sees it."""

    device: str
    name: str
    cores: int
    memory_bytes: float
    formats: tuple[str, ...]


def host() -> Host:
    """Return what there is: the first card, or the processor."""
    import torch

    from crore.train.calibrate.compute import formats

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Host(
            device="cuda", name=card.name, cores=torch.cuda.device_count(),
            memory_bytes=float(card.total_memory), formats=formats("cuda"),
        )  # fmt: skip
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Host(
        device="cpu", name=processor_name(), cores=cores(), memory_bytes=float(total),
        formats=formats("cpu"),
    )  # fmt: skip


def cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    with contextlib.suppress(OSError):
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def counts(machine: Host, processes: int | None) -> tuple[int, ...]:
    """Return the process counts to measure: 1, and two or as many as asked.

    InputError when there are fewer cores or cards.
    """
    cuda = machine.device == "cuda"
    limit = min(machine.cores if cuda else max(machine.cores, 2), MOST_PROCESSES)
    if processes is not None and not 1 <= processes <= limit:
        unit = "cards" if cuda else "cores"
        raise InputError(
            f"--processes is 1 to {limit} ({machine.cores} {unit} here), not {processes}"
        )
    most = min(2, limit) if processes is None else processes
    return tuple(sorted({1, min(2, most), most}))


def threads_of(machine: Host, processes: int) -> int:
    """Return the threads of each process: the cores shared out, one beside a card."""
    return 1 if machine.device == "cuda" else max(machine.cores // processes, 1)


def tasks_of(machine: Host, processes: int, folder: str) -> Iterator[Task]:
    """Yield what is measured in one setting, in order."""
    threads = threads_of(machine, processes)
    kinds: list[tuple[str, Sequence[str]]] = [
        ("launch", ("",)), ("products", machine.formats), ("attention", machine.formats),
        ("passes", PASSES), ("optimizer", ("",)), ("messages", ("",) * (processes > 1)),
        ("shard", ("",) * (processes > 1)),
        ("steps", tuple(zero_stages(processes)) if machine.device == "cpu" else ()),
    ]  # fmt: skip
    for what, parts in kinds:
        for of in parts:
            yield Task(what, of, processes, threads, folder)


def calibrate(processes: int | None = None, watch: Watch | None = None) -> Calibration:
    """Measure this machine with 1, 2 and (where asked) more `processes`; about a minute.

    Workers are ended on the way out, also by an interrupt. Raises InputError for a count the
    machine does not have.
    """
    started, when = time.monotonic(), dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0
    machine = host()
    settings = counts(machine, processes)
    with tempfile.TemporaryDirectory() as folder, workers(settings[-1]) as (pipes, hello):
        rounds = [
            task for number in range(ROUNDS) for count in settings
            for task in tasks_of(machine, count, f"{folder}/{number}")
        ]  # fmt: skip
        answers: dict[tuple[int, str, str], list[Any]] = {}
        for index, task in enumerate(rounds):
            if watch is not None:
                watch(index / len(rounds), _title(task))
            answer = merged(_ask(pipes[: task.processes], task), max)
            answers.setdefault((task.processes, task.what, task.of), []).append(answer)
    made = [setting_of(machine, count, answers) for count in settings]
    resident, version = hello
    found = Calibration(
        device="cuda" if machine.device == "cuda" else "cpu", name=machine.name, date=when,
        torch=version, cores=machine.cores, memory_bytes=machine.memory_bytes,
        process_bytes=resident, load=load, took_s=round(time.monotonic() - started, 1),
        spread=_spread(answers), settings=tuple(made),
    )  # fmt: skip
    return replace(found, settings=tuple(_whole(found, setting, answers) for setting in made))


def _whole(
    found: Calibration, setting: Setting, answers: Mapping[tuple[int, str, str], list[Any]]
) -> Setting:
    """Return a setting with what whole steps take beyond its parts, where they were measured."""
    taken = {
        of: merged(rounds, min)
        for (count, what, of), rounds in answers.items()
        if count == setting.processes and what == "steps"
    }
    return with_remainder(found, setting, taken) if taken else setting


def _title(task: Task) -> str:
    plural = "es" if task.processes > 1 else ""
    return f"{task.processes} process{plural}: {task.what} {task.of}".rstrip()


@contextlib.contextmanager
def workers(count: int) -> Iterator[tuple[list[Connection], tuple[float, str]]]:
    """Start processes that wait for tasks; give their pipes and what the first one said."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(count)]
    made = [
        context.Process(target=serve, args=(rank, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pairs)
    ]
    try:
        for process in made:
            process.start()
        for _, theirs in pairs:
            theirs.close()
        said = [_receive(ours) for ours, _ in pairs]
        yield [ours for ours, _ in pairs], said[0]
    finally:
        for process in made:
            if process.pid is not None:
                process.terminate()
                process.join()


def _ask(pipes: list[Connection], task: Task) -> list[Any]:
    """Give a task to several workers at once and return their answers; raises what one raised."""
    for pipe in pipes:
        pipe.send(task)
    answers = [_receive(pipe) for pipe in pipes]
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _receive(pipe: Connection) -> Any:
    try:
        if pipe.poll(START_S):
            return pipe.recv()
    except EOFError:
        pass
    raise InputError("a measuring process ended early: is the memory full? try --processes 1")


def setting_of(
    machine: Host, processes: int, answers: Mapping[tuple[int, str, str], list[Any]]
) -> Setting:
    """Return the setting of a process count: the best of all rounds at every point."""
    found: dict[str, dict[str, Any]] = {}
    for (count, what, of), rounds in answers.items():
        if count == processes:
            found.setdefault(what, {})[of] = merged(rounds, min)
    return Setting(
        processes=processes, threads=threads_of(machine, processes), launch_s=found["launch"][""],
        products=found["products"], attention=found["attention"], passes=found["passes"],
        optimizer=found["optimizer"][""], messages=found.get("messages", {}).get("", {}),
        shard_s=found.get("shard", {}).get("", 0.0),
    )  # fmt: skip


def merged(answers: Sequence[Any], pick: Callable[[Sequence[float]], float]) -> Any:
    """Return `pick` of the numbers at every point of equal records.

    A step waits for the slowest process; of rounds the fastest was disturbed the least. Axes are
    the same everywhere, and so is any pick of them.
    """
    first = answers[0]
    if isinstance(first, float):
        return pick(answers)
    if isinstance(first, dict):
        return {key: merged([answer[key] for answer in answers], pick) for key in first}
    if isinstance(first, tuple):
        return tuple(pick(values) for values in zip(*answers, strict=True))
    names = [f.name for f in fields(first)]
    return type(first)(**{n: merged([getattr(a, n) for a in answers], pick) for n in names})


def _spread(answers: Mapping[tuple[int, str, str], list[Any]]) -> float:
    """Return the spread of the tables or that of whole steps, few but decisive, if it is larger."""
    steps = [rounds for (_, what, _), rounds in answers.items() if what == "steps"]
    tables = [rounds for (_, what, _), rounds in answers.items() if what != "steps"]
    return max(spread(tables), spread(steps) if steps else 0.0)


def spread(points: Iterable[Sequence[Any]]) -> float:
    """Return the median over all points of the slowest round over the fastest, less one.

    Rounds of a quiet machine agree; whatever else runs, runs beside one of them more.
    """
    ratios = [
        max(values) / min(values)
        for rounds in points
        for values in zip(*(list(_seconds(answer)) for answer in rounds), strict=True)
        if min(values) > 0
    ]
    return round(float(statistics.median(ratios)) - 1, 4)


def _seconds(answer: Any) -> Iterator[float]:
    """Yield the measured numbers of an answer; axes are not measured."""
    if isinstance(answer, float):
        yield answer
    elif isinstance(answer, dict | tuple):
        for each in answer.values() if isinstance(answer, dict) else answer:
            yield from _seconds(each)
    else:
        for field in fields(answer):
            if field.name.endswith(("_s", "seconds")):
                yield from _seconds(getattr(answer, field.name))
