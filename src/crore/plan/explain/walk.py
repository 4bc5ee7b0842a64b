"""Where a number of a plan or of a fit comes from: the file read, made again and asked."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from crore.errors import InputError
from crore.io import Record, parse_object, read_json, read_text
from crore.plan.explain.again import case_of, leaves
from crore.plan.explain.fit import fit_explained
from crore.plan.explain.inputs import input_of
from crore.plan.explain.table import table
from crore.plan.explain.traced import Explanation, Numbers, Traced
from crore.plan.fit import FIT_VERSION
from crore.plan.record import SCHEMA_VERSION

EXPLANATION_VERSION: Final = 1
"""Of crore.explain, the document of `crore explain`."""
_ALTERNATIVE: Final = re.compile(r"alternatives\.(\d+)\.(.+)")


class Explained(Traced):
    """One plan of a file."""

    def __init__(self, record: Record, where: str, alternative: int = 0) -> None:
        """Price the file's plan again, or its n-th alternative; raises as `case_of` does."""
        self.where, self.place = where, alternative
        self.case = case_of(record, where, alternative)
        super().__init__(
            "plan", record, file=leaves(self.case.record), made=self.case.numbers,
            table=table(self.case), look_up=partial(input_of, self.case),
            step_evidence=self.case.plan.step_time_s.evidence,
        )  # fmt: skip

    def explain(self, key: str) -> Explanation:
        """Return the explanation of a number, of an alternative's too; raises as for any file."""
        inner = _ALTERNATIVE.fullmatch(key)
        if (
            inner
            and not self.place
            and 1 <= int(inner[1]) <= len(self.record.get("alternatives") or ())
        ):
            return self._of_alternative(int(inner[1]), inner[2])
        return super().explain(key)

    def _of_alternative(self, place: int, key: str) -> Explanation:
        found = Explained(self.record, self.where, place).explain(key)
        prefix = f"alternatives.{place}."
        inputs = tuple(replace(it, key=prefix + it.key if it.key else "") for it in found.inputs)
        return replace(found, key=prefix + found.key, inputs=inputs)


def explain_file(path: Path, key: str = "") -> Numbers | Explanation:
    """Return the explanation of a number of a plan or fit file; the list of numbers without a key.

    A key that holds several numbers lists them. Raises InputError for a file that is neither or
    cannot be made again, UnknownName for a number it does not hold.
    """
    file = _read(path)
    if not key or file.has_below(key):
        return file.numbers(f"{key}." if key else "")
    return file.explain(key)


def _read(path: Path) -> Traced:
    kind = str(parse_object(read_text(path), str(path)).get("schema", "none"))
    if kind.startswith("crore.fit/"):
        return fit_explained(read_json(path, "fit", FIT_VERSION), str(path))
    if not kind.startswith("crore.plan/"):
        raise InputError(
            f"{path.name[-60:]} must hold schema crore.plan or crore.fit, not {kind[:40]}"
        )
    return Explained(read_json(path, "plan", SCHEMA_VERSION), str(path))
