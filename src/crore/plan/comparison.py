"""Plans side by side, and why one takes longer or costs more than another.

A run is a product: `tokens · FLOPs per token / GPUs · z / (goodput · learning)`, where `z` is the
seconds of a step per model FLOP of one GPU, a sum over the parts of the step. Factors of the
product are compared as they are; the parts of the sum by the additive logarithmic-mean Divisia
index, which leaves no residual and takes parts that are zero (B. W. Ang, The LMDI approach to
decomposition analysis: a practical guide, Energy Policy 33, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from crore.errors import InputError
from crore.plan.answer import Answer, Plan
from crore.plan.record import plan_record
from crore.plan.request import Question

COMPARISON_VERSION: Final = 1
MOST: Final = 6
"""Answers side by side: as many columns as a terminal holds."""
LETTERS: Final = "ABCDEF"
METHOD: Final = (
    "a run is tokens x FLOPs per token / GPUs x step seconds per FLOP / goodput / learning; "
    "parts of the step by the logarithmic-mean Divisia index (Ang, Energy Policy 33, 2005)"
)
OUTER: Final = "waiting for outer steps"
OF_STEP: Final = "of the step"
PARTS: Final[Mapping[str, str]] = {
    "products": "products at that peak",
    "host": "waiting for the host",
    "bubble": "pipeline bubble",
    **{axis: f"{axis} messages" for axis in ("tp", "cp", "ep", "pp", "dp")},
}
"""Part of a step -> what it is called as a cause; the others are called what they are."""

LAYERED: Final = ("products", "attention", "memory passes", "recompute", "tp", "cp", "ep")
"""Parts of the step that every layer of the fullest stage adds to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """One cause of a ratio."""

    name: str
    factor: float
    """What this cause multiplies the figure by; 1 for no difference."""
    before: float
    """The first answer's figure, in `unit`; of a part of the step, its share."""
    after: float
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """A figure over the first answer's, and the factors that multiply to it."""

    ratio: float
    factors: tuple[Factor, ...]

    @property
    def residual(self) -> float:
        """What the factors leave unexplained, relative to the ratio: rounding, nothing else."""
        return math.prod(f.factor for f in self.factors) / self.ratio - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One answer against the first."""

    letter: str
    days: Ratio
    usd: Ratio | None
    """None where the price of one of the two is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Answers side by side; the first is what the others are held against."""

    names: tuple[str, ...]
    answers: tuple[Answer, ...]
    differences: tuple[Difference, ...]
    """One per answer after the first, in order."""
    notes: tuple[str, ...] = ()
    """Where the answers come from, as far as their names do not say."""

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The best plan of each answer."""
        return tuple(answer.plan for answer in self.answers)

    def _repr_html_(self) -> str:
        from crore.plan.text.html import comparison_html

        return comparison_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from crore.plan.text.comparison import render_comparison

        return {"text/plain": render_comparison(self), "text/html": self._repr_html_()}


def compare(
    answers: Sequence[Answer], names: Sequence[str] = (), notes: Sequence[str] = ()
) -> Comparison:
    """Return the best plans of two to six answers side by side, each held against the first.

    `names` says what each is called; its title or model when left out. Raises InputError for
    more or fewer answers, or names that are not as many.
    """
    if not 2 <= len(answers) <= MOST:
        raise InputError(f"a comparison takes 2 to {MOST} plans, not {len(answers)}")
    if names and len(names) != len(answers):
        raise InputError(f"{len(answers)} plans cannot go by {len(names)} names: one for each")
    first = answers[0].plan
    return Comparison(
        names=tuple(names) or tuple(_name(answer.question) for answer in answers),
        answers=tuple(answers),
        differences=tuple(
            Difference(
                letter=letter, days=_days(first, answer.plan), usd=_dollars(first, answer.plan)
            )
            for letter, answer in zip(LETTERS[1:], answers[1:], strict=False)
        ),
        notes=tuple(notes),
    )


def comparison_record(made: Comparison) -> dict[str, Any]:
    """Return a comparison as the JSON document's body."""
    from crore.plan.text.comparison import verdicts

    return {
        "verdicts": verdicts(made),
        "targets": [
            {"letter": letter, "name": name, "plan": plan_record(answer)}
            for letter, name, answer in zip(LETTERS, made.names, made.answers, strict=False)
        ],
        "differences": [
            {
                "target": it.letter, "against": LETTERS[0],
                "days": _ratio_record(it.days),
                "usd": None if it.usd is None else _ratio_record(it.usd),
            }
            for it in made.differences
        ],
        "method": METHOD,
        "notes": list(made.notes),
    }  # fmt: skip


def _ratio_record(it: Ratio) -> dict[str, Any]:
    return {
        "ratio": it.ratio, "residual": it.residual, "factors": [asdict(f) for f in it.factors],
    }  # fmt: skip


def _name(q: Question) -> str:
    return q.request.title or q.model.name


def _days(a: Plan, b: Plan) -> Ratio:
    return Ratio(
        ratio=b.run_s / a.run_s,
        factors=(
            _plain("tokens", a.question.tokens, b.question.tokens, ""),
            _plain("FLOPs per token", _flops_per_token(a), _flops_per_token(b), "FLOP"),
            _plain("GPUs", a.gpus, b.gpus, "GPUs", power=-1),
            *_parts(a, b),
            _plain("goodput", a.goodput, b.goodput, "of the time", power=-1),
            _plain("islands' learning", a.learning[1], b.learning[1], "per token", power=-1),
        ),
    )


def _dollars(a: Plan, b: Plan) -> Ratio | None:
    """Dollars are GPU-hours times their price: the run's factors, a price in place of the GPUs."""
    usd = [plan.economy.usd for plan in (a, b)]
    rates = [plan.economy.usd_per_gpu_hour for plan in (a, b)]
    if not (usd[0] and usd[1] and rates[0] and rates[1]):
        return None
    hours = (f for f in _days(a, b).factors if f.name != "GPUs")
    price = _plain("price of a GPU-hour", rates[0][1], rates[1][1], "USD")
    return Ratio(ratio=usd[1][1] / usd[0][1], factors=(*hours, price))


def _plain(name: str, before: float, after: float, unit: str, power: int = 1) -> Factor:
    return Factor(
        name=name, factor=(after / before) ** power, before=float(before), after=float(after),
        unit=unit,
    )  # fmt: skip


def _flops_per_token(plan: Plan) -> float:
    """Model FLOPs of one token, forward and backward, recompute left out."""
    return _flops(plan) * plan.gpus / plan.global_batch_tokens


def _flops(plan: Plan) -> float:
    """Model FLOPs of one GPU in one step."""
    return plan.model_flops_per_s * plan.step_time_s.value


def step_parts_s(plan: Plan) -> dict[str, float]:
    """Return the seconds of a step by cause, its share of what islands wait for included."""
    waits_s = float(plan.rounds.exposed_s) / float(plan.rounds.interval)
    return {**plan.step_split_s, OUTER: waits_s}


def _drivers(plan: Plan) -> dict[str, tuple[float, str, int, tuple[str, ...]]]:
    """Return what parts of the step are known to be proportional to: figure, unit, power, parts."""
    it, machine = plan.layout, plan.network.machine
    fullest = it["stage_layers"] * it["pp"] / plan.question.model.layers
    return {
        "peak FLOP/s": (float(machine.linear_peak), "FLOP/s", -1, ("products",)),
        "memory bandwidth": (float(machine.memory_bytes_per_s), "B/s", -1, ("memory passes",)),
        "layers of the fullest stage": (fullest, "of the mean", 1, LAYERED),
    }


def _parts(a: Plan, b: Plan) -> Iterator[Factor]:
    """Yield what drives the seconds of a step per FLOP, then what is left of each of its parts."""
    parts = step_parts_s(a), step_parts_s(b)
    total = sum(parts[0].values()), sum(parts[1].values())
    flops = _flops(a), _flops(b)
    whole = log_mean(total[0] / flops[0], total[1] / flops[1])
    names = dict.fromkeys((*parts[0], *parts[1]))
    weight, left = {}, {}
    for name in names:
        old, new = (part.get(name, 0.0) / f for part, f in zip(parts, flops, strict=True))
        weight[name], left[name] = log_mean(old, new) / whole, (new - old) / whole
    drivers = _drivers(a), _drivers(b)
    for driver, (before, unit, power, driven) in drivers[0].items():
        after = drivers[1][driver][0]
        change = power * math.log(after / before)
        for name in driven:
            left[name] -= weight[name] * change
        log = change * sum(weight[name] for name in driven)
        yield Factor(name=driver, factor=math.exp(log), before=before, after=after, unit=unit)
    for name in names:
        shares = [part.get(name, 0.0) / t for part, t in zip(parts, total, strict=True)]
        yield Factor(
            name=PARTS.get(name, name), factor=math.exp(left[name]), before=shares[0],
            after=shares[1], unit=OF_STEP,
        )  # fmt: skip


def log_mean(a: float, b: float) -> float:
    """Return `(b - a) / ln(b / a)`, between the two: both when they are equal, 0 when one is 0."""
    low, high = min(a, b), max(a, b)
    if low == high or low <= 0:
        return low
    return (high - low) / math.log1p((high - low) / low)
