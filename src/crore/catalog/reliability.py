"""What fails, how often, and what others published about it: reliability.toml becomes records."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from crore.catalog.economics import Figure, build_figure
from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, choice, number, read_provenance, words
from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, shown
from crore.io import read_toml

YEAR_S = 365 * 86_400.0
CAUSE_KEYS = ("count", "per_domain_year", "domain", "permanent")
PUBLISHED_KEYS = ("what", "published", "low", "high")
OBSERVED_KEYS = ("run", "gpus", "days", "unexpected", "planned")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """The run that causes were counted in."""

    run: str
    gpus: float
    days: float
    unexpected: int
    """Interruptions that nobody planned, silent corruption among them."""
    planned: int
    provenance: Provenance

    @property
    def gpu_s(self) -> float:
        """GPU-seconds it lasted."""
        return self.gpus * self.days * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One cause of failures."""

    name: str
    domain: str
    """What goes down with it, a key of `domain_gpus`."""
    per_gpu_s: float
    """Events per GPU-second of the fleet."""
    count: int
    """As counted in the observed run; 0 for an estimate."""
    permanent: float
    """Share that needs hands; estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedReliability:
    """What somebody measured, and the range in which a prediction would agree with it."""

    what: str
    published: str
    """As printed."""
    low: float
    high: float
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """Everything known about failures."""

    observed: Observed
    domain_gpus: Mapping[str, float]
    causes: tuple[Cause, ...]
    figures: Mapping[str, Figure]
    published: Mapping[str, PublishedReliability]

    def figure(self, name: str) -> Figure:
        """Return a figure by its key; UnknownName when there is none."""
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return self.figures[name]


def build_cause(
    name: str, row: Row, observed_gpu_s: float, domain_gpus: Mapping[str, float]
) -> Cause:
    """Return the cause a row describes, by its count or by its rate per domain and year.

    InputError when it has neither or both, or a share above one.
    """
    label = f"cause {shown(name)}"
    check_keys(label, row, CAUSE_KEYS)
    if ("count" in row) == ("per_domain_year" in row):
        raise InputError(f"{label} has count or per_domain_year, one of the two")
    domain = choice(label, row, "domain", domain_gpus)
    permanent = number(label, row, "permanent")
    if permanent > 1:
        raise InputError(f"{label}: permanent is a share up to 1, not {permanent:g}")
    count = number(label, row, "count", 0.0)
    yearly = number(label, row, "per_domain_year", 0.0)
    estimated = yearly / (domain_gpus[domain] * YEAR_S)
    return Cause(
        name=name, domain=domain, per_gpu_s=count / observed_gpu_s + estimated,
        count=int(count), permanent=permanent,
    )  # fmt: skip


def build_published(name: str, row: Row) -> PublishedReliability:
    """Return the published figure a row describes; InputError when its range is out of order."""
    label = f"published {shown(name)}"
    check_keys(label, row, PUBLISHED_KEYS)
    low, high = number(label, row, "low"), number(label, row, "high")
    if low > high:
        raise InputError(f"{label}: low <= high, not {low:g}, {high:g}")
    return PublishedReliability(
        what=words(label, row, "what"), published=words(label, row, "published"),
        low=low, high=high, provenance=read_provenance(label, row),
    )  # fmt: skip


@functools.cache
def load_reliability() -> Reliability:
    """Return the shipped rows."""
    tables = read_toml(DATA / "reliability.toml")
    row = tables["observed"]
    check_keys("observed", row, OBSERVED_KEYS)
    counts = {key: number("observed", row, key, positive=True) for key in OBSERVED_KEYS[1:]}
    observed = Observed(
        run=words("observed", row, "run"), gpus=counts["gpus"], days=counts["days"],
        unexpected=int(counts["unexpected"]), planned=int(counts["planned"]),
        provenance=read_provenance("observed", row),
    )  # fmt: skip
    domains = {k: number("domains", tables["domains"], k, positive=True) for k in tables["domains"]}
    return Reliability(
        observed=observed, domain_gpus=domains,
        causes=tuple(
            build_cause(name, cause, observed.gpu_s, domains)
            for name, cause in tables["causes"].items()
        ),
        figures={name: build_figure(name, one) for name, one in tables["figures"].items()},
        published={name: build_published(name, one) for name, one in tables["published"].items()},
    )  # fmt: skip
