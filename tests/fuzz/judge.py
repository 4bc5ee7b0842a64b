"""One case by its seed: run in this process, and held against what every case must keep."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from tests.fuzz.asked import request_of
from tests.fuzz.commands import line_of
from tests.fuzz.missions import mission_of

from crore.cli import run
from crore.errors import MAX_MESSAGE_CHARS, CroreError
from crore.plan import PlanRequest, make_plan, plan_record, render

MOST_CPU_S: Final = 10.0
STOPPED_CPU_S: Final = 60.0
"""A case is stopped here, so that one that never ends is a finding too."""
MOST_BYTES: Final = 2e9
WIDTH: Final = 120
"""Columns of an answer; a listing of the catalogue and the findings of a check may be wider."""
SHOWN: Final = 400
"""Characters of a case that a report repeats."""


class NeverEnds(BaseException):
    """A case took STOPPED_CPU_S; nothing of crore's catches it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one case."""

    seed: int
    case: str
    """The request or command line, and the mission of it."""
    code: int
    cpu_s: float
    peak_bytes: float
    """Of the process while the case ran."""
    wrong: tuple[str, ...]
    """What the case broke; empty when it is fine."""

    def __str__(self) -> str:
        """One line for a report."""
        told = f"seed {self.seed}: exit {self.code}, {self.cpu_s:.2f} CPU s, "
        told += f"{self.peak_bytes / 1e6:.0f} MB: {self.case[:SHOWN]}"
        return told + "".join(f"\n    WRONG {text}" for text in self.wrong)


def judged(seed: int) -> Outcome:
    """Make and run the case of a seed; return what became of it."""
    rng = Random(seed)
    with TemporaryDirectory() as name, contextlib.chdir(name):
        kind = rng.random()
        if kind < 0.4:
            request = request_of(rng)
            return _watched(seed, _short(request), lambda: _asked(request))
        folder = Path(name)
        if kind < 0.65:
            (folder / "mission.toml").write_bytes(mission_of(rng))
            line = [rng.choice(("plan", "plan", "check")), str(folder / "mission.toml")]
        else:
            line = line_of(rng, folder, sound_plan())
        told = " ".join(line).replace(name, "$DIR")
        if str(folder / "mission.toml") in told.replace("$DIR", name):
            text = (folder / "mission.toml").read_bytes()[:SHOWN].decode(errors="replace")
            told += f"\n    mission.toml: {text!r}"
        return _watched(seed, told, lambda: _called(line, folder))


def _short(request: PlanRequest) -> str:
    """Return a request without what is left at its default."""
    default = PlanRequest(model="")
    given = {f.name: getattr(request, f.name) for f in fields(request)}
    told = {k: v for k, v in given.items() if v != getattr(default, k)}
    return f"PlanRequest({', '.join(f'{k}={v!r}' for k, v in told.items())})"


@cache
def sound_plan() -> str:
    """Return the text of a plan file, the same every time."""
    with TemporaryDirectory() as name:
        path = Path(name) / "plan.json"
        words = ["plan", "gpt2-124m", "--gpu", "rtx-3090", "--gpus", "8", "-o", str(path)]
        with contextlib.redirect_stdout(io.StringIO()):
            assert run(words) == 0
        text = path.read_text(encoding="utf-8").replace(name, "")
    return re.sub(r'("search_cpu_s": )[\d.e-]+', r"\g<1>0.1", text)


def _watched(seed: int, case: str, work: Callable[[], tuple[int, list[str]]]) -> Outcome:
    """Run a case with its time and memory measured, and NumPy's warnings as errors."""
    _forget_peak()
    started = time.process_time()
    try:
        with _ended_after(STOPPED_CPU_S), warnings.catch_warnings():
            warnings.simplefilter("error")
            code, wrong = work()
    except (Exception, NeverEnds) as error:
        code, wrong = 70, [_where(error)]
    cpu_s, peak = time.process_time() - started, _peak_bytes()
    if cpu_s > MOST_CPU_S:
        wrong.append(f"took {cpu_s:.1f} CPU s, more than {MOST_CPU_S:g}")
    if peak > MOST_BYTES:
        wrong.append(f"held {peak / 1e9:.2f} GB, more than {MOST_BYTES / 1e9:g}")
    return Outcome(
        seed=seed, case=case, code=code, cpu_s=cpu_s, peak_bytes=peak, wrong=tuple(wrong)
    )


def _asked(request: PlanRequest) -> tuple[int, list[str]]:
    """Plan through the Python API; an answer is written out in both forms."""
    try:
        answer = make_plan(request)
    except CroreError as error:
        return error.exit_code, _of_message(f"crore: {error}")
    json.dumps(plan_record(answer), allow_nan=False, default=str)
    return 0, _of_answer(render(answer))


def _called(line: list[str], folder: Path) -> tuple[int, list[str]]:
    """Call the command line; what it printed and wrote is looked at."""
    before = _listing(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(line)
    wrong = [] if code in (0, 1, 2) else [f"exit code {code}"]
    said = err.getvalue()
    found = line[0] == "check" and code > 0 and not said  # findings are its answer
    if code == 0 or found:
        wrong += [f"an answer, and on stderr {said[:200]!r}"] if said else []
        if "--json" in line:
            wrong += _of_document(out.getvalue())
        elif line[0] in ("plan", "compare", "explain", "fit", "validate"):
            wrong += _of_answer(out.getvalue())
        elif not out.getvalue().strip():
            wrong.append("an empty answer")
    else:
        wrong += [f"a failure, and on stdout {out.getvalue()[:200]!r}"] if out.getvalue() else []
        wrong += _of_message(said)
    if not {"-o", "--output", "--predictions"} & set(line) and _listing(folder) != before:
        wrong.append("wrote without being asked")
    return code, wrong


def _of_message(said: str) -> list[str]:
    """Return what is wrong with the one line of a failure."""
    lines = said.splitlines()
    wrong = [] if len(lines) == 1 else [f"{len(lines)} lines: {said[:400]!r}"]
    if not said.startswith("crore: ") or len(said.strip()) <= len("crore: "):
        wrong.append(f"not a message of crore: {said[:400]!r}")
    if any(len(text) > MAX_MESSAGE_CHARS for text in lines):
        wrong.append(f"over {MAX_MESSAGE_CHARS} characters: {said!r}")
    return wrong


def _of_answer(text: str) -> list[str]:
    """Return what is wrong with an answer: nothing in it, or a number that is none."""
    if not text.strip():
        return ["an empty answer"]
    if wide := [line for line in text.splitlines() if len(line) > WIDTH]:
        return [f"a line of {len(wide[0])} columns: {wide[0]!r}"]
    odd = re.search(r".*(?<![\w-])(nan|inf|-inf|None|np\.float64|Traceback)(?![\w-]).*", text)
    return [f"not a number: {odd[0].strip()[:160]!r}"] if odd else []


def _of_document(text: str) -> list[str]:
    try:
        json.loads(text)
    except ValueError as error:
        return [] if "Usage:" in text else [f"no JSON: {error}"]
    return []


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file())


def _where(error: BaseException) -> str:
    """Return an exception and the lines of crore it came through last."""
    from traceback import extract_tb

    frames = [f for f in extract_tb(error.__traceback__) if "crore" in f.filename]
    at = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[:-6:-1])
    return f"{type(error).__name__}: {str(error)[:300]} at {at}"


@contextlib.contextmanager
def _ended_after(cpu_s: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise NeverEnds(f"stopped after {cpu_s:g} CPU s")

    known = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, known)


def _forget_peak() -> None:
    """Begin a new peak of this process where Linux can; else the peak is of all cases so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes() -> float:
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            return float(found[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
