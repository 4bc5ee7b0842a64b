"""Every layout trains as one process does: loss, gradient norm and weights of the same steps."""

from __future__ import annotations

import pytest
from tests.train.gloo import run
from tests.train.parity import LEAST_FALL, References, compare, report, train
from tests.train.parity_cases import (
    CLOSEST,
    DENSE,
    MOE,
    QUICK,
    REFUSED,
    VARIANTS,
    case,
    everything,
    quick,
)
from tests.train.state_bytes import counted, planned

from crore.errors import InputError
from crore.model.split import Split

AT_ONCE = 5
"""Cases in one world: each more saves a start, and all must end before `run` gives up."""
FAILING = {name: refused for name, refused in REFUSED.items() if refused.torch_says}
SLOW = [c for c in everything() if (c.name, c.model) not in QUICK]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return References(tmp_path_factory.mktemp("parity"))


def holds(cases, references):
    """Run cases of equally many ranks, and fail with those that differ or learn nothing."""
    at_once = [cases[first : first + AT_ONCE] for first in range(0, len(cases), AT_ONCE)]
    differences = [d for some in at_once for d in compare(some, references)]
    found = list(zip(cases, differences, strict=True))
    assert not [(c.name, c.model, d) for c, d in found if d.largest > c.within]
    assert not [(c.name, c.model, d) for c, d in found if d.fall < LEAST_FALL]


@pytest.mark.parametrize("ranks", [2, 4])
def test_every_axis_and_schedule_trains_as_one_process(ranks, references):
    holds(quick(ranks), references)


@pytest.mark.drill
@pytest.mark.parametrize("one", SLOW, ids=lambda one: f"{one.name}, {one.model}")
def test_a_layout_trains_as_one_process(one, references):
    holds([one], references)


def test_no_token_is_near_to_another_expert(references):
    routed = [c for c in everything() if c.spec.experts and c.split.precision == "fp32"]
    for one in {references.of(c): c for c in routed}.values():
        assert references.load(one).closest > CLOSEST, one.model


def test_other_weights_are_seen_as_a_difference(references):
    one, other = (case("FSDP 2", model, DENSE, Split(dp_shard=2)) for model in ("dense", "other"))
    here = references.of(one)
    object.__setattr__(other.options, "seed", 1)
    reported = run(report, 2, references.folder, [one, other], [here, here])
    for same, different in reported:
        assert max(same.loss, same.norm, same.weight) < one.within
        assert min(different.loss, different.norm, different.weight) > 10 * one.within


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_torch_cannot_run_is_refused(refused):
    with pytest.raises(InputError, match=refused.reason):
        refused.case.refuse()


@pytest.mark.drill
@pytest.mark.parametrize("refused", FAILING.values(), ids=FAILING)
def test_what_is_refused_for_torchs_sake_fails_in_torch(refused, tmp_path):
    with pytest.raises(AssertionError, match=refused.torch_says):
        run(train, refused.case.split.ranks, tmp_path, refused.case)


@pytest.mark.parametrize("reason", ["tp, cp or pp", "sequence parallelism", "tied table"])
def test_what_crore_does_not_build_is_refused(reason):
    further = case("", "", DENSE, Split(cp=2), mtp=True)
    routed_twice = case("", "", MOE, Split(tp=2))
    tied = VARIANTS["learned positions, tied"]
    both_ends = case("", "", tied, Split(pp=2, schedule="zb-v"))
    refused = {"tp, cp or pp": further, "sequence": routed_twice, "tied table": both_ends}
    with pytest.raises(InputError, match=reason):
        next(c for word, c in refused.items() if reason.startswith(word)).refuse()


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_a_rank_of_fsdp_holds_the_bytes_that_the_plan_says(ranks, tmp_path):
    both = [case("", "", spec, Split(dp_shard=ranks)) for spec in (DENSE, MOE)]
    plan = [planned(one) for one in both]
    assert run(counted, ranks, tmp_path, both) == [plan] * ranks


def test_uneven_shards_are_a_few_percent_fuller_than_the_plan_says(tmp_path):
    """torch pads each weight by whole rows; the plan pads their sum."""
    one = case("", "", VARIANTS["uneven shards"], Split(dp_shard=4))
    fullest = max(rank.total for [rank] in run(counted, 4, tmp_path, [one]))
    assert planned(one).total < fullest < 1.05 * planned(one).total
