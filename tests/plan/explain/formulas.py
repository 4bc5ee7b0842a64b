"""A table's formulas, evaluated: their text cannot rot."""

from __future__ import annotations

from collections.abc import Iterator

from crore.plan.explain.traced import Traced


def computed(explained: Traced) -> Iterator[tuple[str, float, float]]:
    """Yield (formula with its key and numbers, what it comes to, the number it explains)."""
    for key, entry in explained.table.items():
        value = explained._value(key)
        if not entry.formula or value is None:
            continue
        text = entry.formula
        inputs = [explained._input(word) for word in entry.inputs]
        for it in sorted(inputs, key=lambda it: -len(it.name)):
            text = text.replace(it.name, f"({it.value!r})")
        found = eval(text, {"__builtins__": {}, "max": max, "min": min})  # noqa: S307  our own
        yield f"{key}: {entry.formula} = {text}", found, value
