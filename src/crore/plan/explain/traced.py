"""One file's numbers, each with its formula, what went in, what it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from crore import __version__
from crore.errors import InputError, UnknownName, shown
from crore.io import Record
from crore.plan.explain.again import Number
from crore.plan.explain.entry import GROUPS, STEP, Entry, Kind
from crore.plan.explain.inputs import Input, is_number
from crore.plan.explain.notes import Note, citations, note_of
from crore.plan.explain.parts import Item

SAME: Final = 1e-9
"""Relative difference from which the file and what is made again are said to differ."""
LISTING: Final = "crore explain FILE"
NEAREST: Final = 3
"""Numbers that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One number, walked back one level; its inputs' keys lead further."""

    key: str
    group: str
    about: str
    kind: Kind
    value: Number
    """Computed again from the file's request and layout; the file's own where it was counted."""
    unit: str
    low: Number | None
    """Of the 80 % interval (or of a spread of prices), where there is one."""
    high: Number | None
    evidence: str
    in_file: Number | None
    """What the file says; None for a step between its numbers."""
    differs: bool
    formula: str
    functions: tuple[Note, ...]
    citations: tuple[str, ...]
    note: str
    inputs: tuple[Input, ...]
    movers: tuple[Input, ...]
    """Fitted constants and machine rates that change it, most first."""
    made_of: tuple[Item, ...]
    """Parts or operations, largest first."""
    sum: float | None
    """Of `made_of`, to hold against `value`."""
    written_by: str
    """Version of crore that wrote the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One number of the list."""

    key: str
    group: str
    value: Number
    unit: str
    about: str
    listed: bool
    """Shown in the short list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """What a plan file holds to explain."""

    below: str
    """The key they all begin with; empty for all numbers of the plan."""
    verdict: str
    written_by: str
    """Version of crore."""
    lines: tuple[Line, ...]
    differ: tuple[str, ...]
    """Keys whose value is another when made again."""


class Traced:
    """Numbers of a file, made again and ready to be asked about."""

    def __init__(
        self, kind: str, record: Record, *, file: Mapping[str, Number], made: Mapping[str, Number],
        table: Mapping[str, Entry], look_up: Callable[[str], Input], step_evidence: str = "",
    ) -> None:  # fmt: skip
        """Take the file's `record`, its numbers as it has them and as made again, and their table.

        `look_up` tells what inputs are that are no numbers; `step_evidence` is of the step time.
        """
        self.kind, self.record, self.file, self.made = kind, record, file, made
        self.table, self.look_up, self.step_evidence = table, look_up, step_evidence
        self.written_by = str(record.get("crore", ""))

    def numbers(self, prefix: str = "") -> Numbers:
        """Return every number below a key, the list of all by default, in the groups' order."""
        lines = [
            Line(key=key, group=entry.group, value=value, unit=entry.unit, about=entry.about,
                 listed=entry.listed and bool(value))
            for key, entry in self.table.items()
            if key.startswith(prefix) and (value := self._value(key)) is not None
        ]  # fmt: skip
        return Numbers(
            below=prefix,
            verdict=str(self.record.get("verdict", "")),
            written_by=self.written_by,
            lines=tuple(sorted(lines, key=lambda line: GROUPS.index(line.group))),
            differ=self._differing(),
        )

    def has_below(self, key: str) -> bool:
        """True when a key is no number itself but holds several."""
        own = key in self.table or f"{key}.value" in self.table
        return not own and any(name.startswith(f"{key}.") for name in self.table)

    def explain(self, key: str) -> Explanation:
        """Return the explanation of a number; `X` stands for `X.value` where that is the number.

        Raises UnknownName with the nearest keys, InputError for one that this plan lacks.
        """
        name = key if key in self.table else f"{key}.value"
        if name not in self.table:
            raise self._unknown(key)
        value = self._value(name)
        if value is None:
            raise InputError(f"{key} has no value in this {self.kind}: unknown, or no part of it")
        return self._explanation(self.table[name], value)

    def _unknown(self, key: str) -> InputError:
        """Return the error for what is no key, with the nearest by its end or its spelling."""
        known = [k for k in self.table if self._value(k) is not None]
        within = (k.partition(f".{key}") for k in known)
        ends = dict.fromkeys(f"{head}.{key}" for head, found, rest in within
                             if found and rest[:1] in ("", "."))  # fmt: skip
        what = f"number of the {self.kind}"
        if not ends:
            return UnknownName(what, key, known, LISTING)
        near = ", ".join([*ends][:NEAREST])
        return InputError(f"unknown {what} {shown(key)}; did you mean {near}? (all: {LISTING})")

    def _value(self, key: str) -> Number | None:
        """A number made again; the file's where nothing makes it again."""
        own = self.table[key].value
        return own if own is not None else self.made.get(key, self.file.get(key))

    def _differing(self) -> tuple[str, ...]:
        made = self.made
        return tuple(k for k, v in self.file.items() if k in made and not _same(v, made[k]))

    def _explanation(self, entry: Entry, value: Number) -> Explanation:
        notes = tuple(note_of(function) for function in entry.functions)
        inputs = tuple(self._input(word) for word in entry.inputs)
        moving = entry.moved() if entry.moved is not None else ()
        parts = self._parts(entry)
        said = " ".join([entry.note, *(n.text for n in notes), *(i.origin for i in inputs)])
        low, high = self._interval(entry.key)
        in_file = self.file.get(entry.key)
        return Explanation(
            key=entry.key, group=entry.group, about=entry.about, kind=entry.kind, value=value,
            unit=entry.unit, low=low, high=high, evidence=self._evidence(entry), in_file=in_file,
            differs=in_file is not None and not _same(in_file, value), formula=entry.formula,
            functions=notes, citations=citations(said), note=entry.note, inputs=inputs,
            movers=moving, made_of=parts, sum=sum(it.amount for it in parts) if parts else None,
            written_by=self.written_by,
        )  # fmt: skip

    def _input(self, word: str) -> Input:
        if not is_number(word):
            return self.look_up(word)
        entry, value = self.table[word], self._value(word)
        origin = entry.note if entry.kind in ("input", "choice") and entry.note else entry.about
        key = word if entry.kind == "derived" else ""
        return Input(name=word, value=0.0 if value is None else value, origin=origin, key=key)

    def _parts(self, entry: Entry) -> tuple[Item, ...]:
        if entry.items is not None:
            return entry.items()
        below = {k: v for k, v in self.made.items() if k.startswith(entry.parts or "\n")}
        items = (Item(name=k, count=0.0, amount=v) for k, v in below.items() if v)
        return tuple(sorted(items, key=lambda it: -it.amount))

    def _interval(self, key: str) -> tuple[Number | None, Number | None]:
        stem, _, end = key.rpartition(".")
        if end != "value" or key.startswith("limits."):
            return None, None
        made = self.made
        return made.get(f"{stem}.low"), made.get(f"{stem}.high")

    def _evidence(self, entry: Entry) -> str:
        if entry.kind in ("input", "choice"):
            return "none needed: it was " + ("given" if entry.kind == "input" else "chosen")
        if entry.evidence == STEP:
            return f"{self.step_evidence}, {STEP}"
        return entry.evidence


def difference(made: Numbers | Explanation) -> str:
    """Return one sentence on what is not as the file says; empty when everything is."""
    if isinstance(made, Explanation):
        keys: tuple[str, ...] = (made.key,) if made.differs else ()
    else:
        keys = made.differ
    if not keys:
        return ""
    some = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    verb = "differs" if len(keys) == 1 else "differ"
    older = f"crore {made.written_by[:20]} wrote it, this is {__version__}"
    reason = older if made.written_by != __version__ else "the catalogue or the code has changed"
    return f"made again, {some} {verb} from the file: {reason}"


def explain_record(made: Numbers | Explanation) -> Mapping[str, object]:
    """Return an explanation, or the list of numbers, as the JSON file's body."""
    return asdict(made)


def _same(one: Number, other: Number) -> bool:
    return math.isclose(one, other, rel_tol=SAME, abs_tol=1e-300)
