"""A written fit made again, and the table of explanations of its numbers: time, money and power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, Final

from crore.catalog import Accelerator, ModelSpec
from crore.cost import Constants, Job, fitted_constants, shape_of, step_time
from crore.cost.evidence import evidence_of, half_width, interval
from crore.cost.finetune import training_job
from crore.cost.machine import Machine
from crore.cost.outlay import RUN
from crore.cost.schedules import SCHEDULE_NAMES
from crore.errors import InputError, shown
from crore.io import Record, check_keys
from crore.plan.explain.again import SPREAD, leaves
from crore.plan.explain.entry import ESTIMATE, STEP, Entry
from crore.plan.explain.figures import TIMED, figure_entry, range_word, range_words
from crore.plan.explain.fit_memory import mode_entries, shape_words, slug
from crore.plan.explain.inputs import moved_by, shared_input
from crore.plan.explain.notes import constant, field_note
from crore.plan.explain.parts import Item
from crore.plan.explain.traced import Traced
from crore.plan.fit import Fit, FitRequest, fit_record, make_fit
from crore.plan.fit_modes import cards_of
from crore.plan.fit_money import Tuning, step_parts, tuning, wider
from crore.plan.saved import typed

MONEY: Final = "crore.plan.fit_money."
WIDTHS: Final = tuple(f"width:{name}_width" for name in ("base", "expert", "host", "blocking"))
UNSEEN: Final = "extrapolated: none of the runs that constants were fitted on had adapters"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cards:
    """What inputs are rows of, on cards without a cluster."""

    accelerator: Accelerator
    model: ModelSpec
    precision: str
    cluster: None = None
    fabric: None = None


@dataclass(frozen=True, kw_only=True)
class FitCase:
    """A fit made again."""

    fit: Fit

    @property
    def question(self) -> Cards:
        """The card and the model."""
        half = cards_of(self.fit.accelerator, self.fit.gpus).half
        return Cards(accelerator=self.fit.accelerator, model=self.fit.model, precision=half)

    @cached_property
    def job(self) -> Job:
        """A step of training with one sequence a card."""
        return training_job(
            shape_of(self.fit.model), self.fit.accelerator, self.question.precision,
            tokens=float(self.fit.context), batch=1.0, cards=float(self.fit.gpus),
        )  # fmt: skip


def fit_explained(record: Record, where: str) -> Traced:
    """Return a fit file ready to be asked; raises as `make_fit` does, and for half a file."""
    asked = record.get("request")
    if not isinstance(asked, Mapping):
        held = shown(asked) if asked is not None else "missing"
        raise InputError(f"{where[-100:]}: the fit's request is {held}: make it anew, crore fit -o")
    names = [field.name for field in fields(FitRequest)]
    check_keys(asked, names, f"{where}: request", required=("model", "gpu"))
    case = FitCase(fit=make_fit(typed(FitRequest, asked, where)))
    entries = [*_asked(case.fit), *mode_entries(case.fit), *_tunings(case)]
    return Traced(
        "fit", record, file=leaves(record), made=leaves(fit_record(case.fit)),
        table={entry.key: entry for entry in entries}, look_up=partial(shared_input, case),
    )  # fmt: skip


def _asked(fit: Fit) -> Iterator[Entry]:
    default = next((line for line in fit.derived if line.startswith("context")), "")
    for key, unit, about, note in (
        ("gpus", "GPUs", "there are", "the request: gpus"),
        ("context", "tokens", "per sequence", default or "the request: context"),
    ):
        yield Entry(
            key=key, group="request", unit=unit, about=about, kind="input", note=note, listed=False
        )
    yield Entry(
        key="memory_capacity_bytes", group="memory", unit="bytes", about="of one GPU",
        formula="memory_bytes", inputs=("gpu:memory_bytes",),
    )  # fmt: skip
    for key in leaves({"request": fit_record(fit)["request"]}):
        about = field_note(FitRequest, key.removeprefix("request."))
        yield Entry(
            key=key, group="request", unit="", about=about or key, kind="input", listed=False,
            note="given by the user, or the default",
        )  # fmt: skip


def _tunings(case: FitCase) -> Iterator[Entry]:
    for one in case.fit.tuning:
        key = f"tuning.{slug(one.mode)}"
        yield from _step(case, one, key)
        yield from _run(case, one, key)
        yield from _figures(case, one, key)
        yield from _ranges(case, one, key)


def _step(case: FitCase, one: Tuning, key: str) -> Iterator[Entry]:
    """The step, which is no number of the file: tokens and batch, its time and how many."""
    default = case.fit.request.tokens is None
    yield Entry(
        key=f"{key}.tokens", group="time", unit="tokens", about="trained on", kind="input",
        note=f"the default: {constant(MONEY + 'DEFAULT_TOKENS')[1]}" if default
        else "the request: tokens", listed=False,
    )  # fmt: skip
    batch, whole = f"modes.{slug(one.mode)}.largest_batch", ("context", "gpus")
    yield Entry(
        key=f"{key}.batch", group="time", unit="sequences", about="of a step on one card",
        formula=f"min({batch}, MOST_SEQUENCES)", inputs=(batch, f"const:{MONEY}MOST_SEQUENCES"),
        listed=False,
    )  # fmt: skip
    yield Entry(
        key=f"{key}.steps", group="time", unit="steps", about="of the run", listed=False,
        formula=f"{key}.tokens / ({key}.batch * context * gpus)", value=one.steps,
        inputs=(f"{key}.tokens", f"{key}.batch", *whole),
    )  # fmt: skip
    yield Entry(
        key=f"{key}.step_s", group="time", unit="s", about="one optimizer step", listed=False,
        evidence=_evidence(case, one), functions=(step_time, step_parts),
        value=sum(one.step_split_s.values()), items=partial(_parts, one),
        inputs=(f"{key}.batch", *whole, *shape_words(case.fit)),
        moved=partial(moved_by, case, fitted_constants(), partial(_seconds, one)),
    )  # fmt: skip


def _evidence(case: FitCase, one: Tuning) -> str:
    if one.base is not None:
        return UNSEEN
    fit, schedule = case.fit, SCHEDULE_NAMES[int(one.job.layout.schedule)]
    return evidence_of(
        fit.accelerator.name, float(fit.gpus), case.question.precision, schedule, fit.context
    )


def _parts(one: Tuning) -> tuple[Item, ...]:
    items = (Item(name=k, count=0.0, amount=s) for k, s in one.step_split_s.items() if s)
    return tuple(sorted(items, key=lambda it: -it.amount))


def _seconds(one: Tuning, machine: Machine, constants: Constants) -> float:
    job = replace(one.job, machine=machine)
    return sum(step_parts(job, step_time(job, constants), one.base).values())


def _run(case: FitCase, one: Tuning, key: str) -> Iterator[Entry]:
    evidence = f"{_evidence(case, one)}, {STEP}"
    yield Entry(
        key=f"{key}.run_s", group="time", unit="s", about="until the last token", listed=False,
        formula=f"{key}.steps * {key}.step_s", value=one.run_s[1], evidence=evidence,
        inputs=(f"{key}.steps", f"{key}.step_s"),
    )  # fmt: skip
    yield Entry(
        key=f"{key}.days.value", group="time", unit="days", about="until the last token",
        evidence=evidence, formula=f"{key}.run_s / DAY_S",
        inputs=(f"{key}.run_s", "const:crore.plan.request.DAY_S"),
    )  # fmt: skip
    adapted = (f"const:{MONEY}ADAPTER_WIDTH",) if one.base is not None else ()
    bounds = ("const:crore.cost.evidence.SCALE_WIDTH_PER_DECADE",
              "const:crore.cost.evidence.UNSEEN_PART_WIDTH")  # fmt: skip
    for end in ("low", "high"):
        yield Entry(
            key=f"{key}.days.{end}", group="time", unit="days", listed=False, evidence=evidence,
            about=f"{end} end of the run's 80 % interval", functions=(interval, half_width, wider),
            inputs=(f"{key}.days.value", "gpus", *WIDTHS, *bounds, *adapted),
        )  # fmt: skip


def _figures(case: FitCase, one: Tuning, key: str) -> Iterator[Entry]:
    part = case.fit.accelerator
    for name, found in one.taken.items():
        if found is None:
            continue
        run = [f"{key}.run_s", f"{key}.days.low", f"{key}.days.high"]
        inputs = ("gpus", *(run if RUN in found.moved_by else ()),
                  *range_words(found, name, part))  # fmt: skip
        evidence = f"{_evidence(case, one)}, {STEP}" if name in TIMED else ESTIMATE
        ends = [*ENDS, *(MOVED if found.mover else ())]
        for end in ends:
            entry = figure_entry(f"{key}.{name}.{end}", end, found, inputs)
            yield replace(entry, evidence=evidence)


ENDS: Final = ("p10", "p50", "p90", "likely")
MOVED: Final = ("moved_by.low", "moved_by.high")


def _ranges(case: FitCase, one: Tuning, key: str) -> Iterator[Entry]:
    """Every assumption, back to its row of the catalogue or its constant."""
    for name, it in one.ranges.items():
        for place, end in enumerate(SPREAD):
            own: dict[str, Any]
            if name == RUN:
                days = f"{key}.days.{end}"
                own = {"formula": f"{days} * DAY_S", "functions": (tuning,),
                       "inputs": (days, "const:crore.plan.request.DAY_S")}  # fmt: skip
            else:
                word = range_word(name, case.fit.accelerator.name)
                called = word.rpartition(":")[2].rpartition(".")[2]
                called = "rental" if name == "rental" else called
                own = {"formula": f"{called}[{place}]", "inputs": (word,)}
            yield Entry(
                key=f"{key}.assumptions.{name}.{end}", group="money and power",
                unit=one.units[name], about=f"{end} end of a range" if end != "value" else "likely",
                evidence=ESTIMATE, note=it.source, listed=False, **own,
            )  # fmt: skip
