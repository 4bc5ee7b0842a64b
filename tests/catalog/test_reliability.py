"""What fails, by cause, with its source; and what others published."""

from __future__ import annotations

import pytest

from crore.catalog.reliability import build_cause, build_published, load_reliability
from crore.cost.goodput import HAZARD_PER_GPU_S
from crore.cost.islands import OUTAGE_EVERY_S, OUTAGE_S, OUTAGE_TIMEOUT
from crore.errors import InputError, UnknownName
from crore.plan.fleet import ABSENT_S, STALL_S

ROWS = load_reliability()
DOMAINS = {"gpu": 1.0, "rack": 72.0}
CAUSE = {"count": 5, "domain": "gpu", "permanent": 0.5}


def test_causes_add_up_to_what_was_counted():
    """Silent corruption, six of them, is counted apart."""
    assert sum(cause.count for cause in ROWS.causes) + 6 == ROWS.observed.unexpected == 419
    silent = ROWS.figure("silent_per_gpu_s").value
    assert silent * ROWS.observed.gpu_s == pytest.approx(6, rel=1e-3)
    counted = sum(cause.count for cause in ROWS.causes) / ROWS.observed.gpu_s
    assert counted + silent == pytest.approx(HAZARD_PER_GPU_S, rel=1e-4)


def test_estimates_add_less_than_a_hundredth():
    estimated = sum(cause.per_gpu_s for cause in ROWS.causes if not cause.count)
    assert 0 < estimated < 0.01 * HAZARD_PER_GPU_S


def test_the_planner_and_the_simulator_have_the_same_figures():
    planner = {
        "stall_s": STALL_S, "absent_s": ABSENT_S, "sites_away_s": OUTAGE_S,
        "sites_every_s": OUTAGE_EVERY_S, "sites_timeout": OUTAGE_TIMEOUT,
    }  # fmt: skip
    assert {name: ROWS.figure(name).value for name in planner} == planner


def test_every_row_has_a_source_and_an_estimate_is_not_called_verified():
    origins = {name: row.provenance for name, row in ROWS.figures.items()}
    origins |= {name: row.provenance for name, row in ROWS.published.items()}
    for name, origin in origins.items():
        assert origin.source, name
        if origin.source.startswith("estimate"):
            assert not origin.verified, name


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UnknownName, match="stall_s"):
        ROWS.figure("stal_s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": None}, "count or per_domain_year"),
        ({"per_domain_year": 0.1}, "one of the two"),
        ({"domain": "planet"}, "domain is one of gpu, rack"),
        ({"permanent": 1.5}, "a share up to 1"),
        ({"cuont": 3}, "unknown key"),
    ],
)
def test_a_bad_cause_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**CAUSE, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        build_cause("mine", row, 1e9, DOMAINS)


def test_a_rate_per_domain_and_year_is_shared_by_its_gpus():
    row = {"per_domain_year": 1.0, "domain": "rack", "permanent": 0}
    assert build_cause("mine", row, 1e9, DOMAINS).per_gpu_s == pytest.approx(1 / 72 / 31_536_000)


def test_a_published_range_is_in_order():
    row = {"what": "x", "published": "1", "low": 2, "high": 1, "source": "mine", "date": "2026"}
    with pytest.raises(InputError, match="low <= high"):
        build_published("mine", row)
