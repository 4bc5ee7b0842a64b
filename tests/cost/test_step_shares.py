"""Sums of a step for some layers recomputed, out of those for none and for all."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from crore.cost import operations
from crore.cost.constants import fitted_constants
from crore.cost.layout import RECOMPUTE
from crore.cost.price import Pricer
from crore.cost.step_shares import Mixture, joined_tallies, turning_shares
from crore.cost.step_time import Tally, hide, tally

C = fitted_constants()
FULL = float(RECOMPUTE.index("full"))
LAYOUT = {"tp": 4.0, "pp": 4.0, "dp_shard": 4.0, "cp": 2.0, "sequence_parallel": 1.0, "zero": 3.0}
"""Every kind of message but experts': 20 layers on the fullest rank."""


@pytest.fixture(scope="module")
def summed(make_job):
    """Return the sums of one layout with so many layers recomputed and shares offloaded."""

    def _summed(layers, states=1.0, activations=1.0):
        job = make_job(
            "llama3-70b", stack="megatron-2025", gpu="h100-sxm", seq_len=4096.0,
            global_batch=256.0, **LAYOUT, recompute=FULL, recompute_layers=float(layers),
            offload_optimizer=states, offload_activations=activations,
        )  # fmt: skip
        return tally(operations(job), Pricer(job, C))

    return _summed


def whole(summed):
    """Return a tally of two rows: nothing recomputed, and all layers."""
    return joined_tallies([summed(0), summed(-1)], [1, 1])


def mixture(share, states=1.0, activations=1.0):
    first, second = np.array([0]), np.array([1])
    return Mixture(none=first, whole=second, share=share, states=states, activations=activations)


def numbers(total):
    """Return every sum of a tally that is not zero."""
    found: dict[tuple[str, str], float] = {}
    for field in fields(Tally):
        value = getattr(total, field.name)
        columns = value if isinstance(value, dict) else {"": value}
        found |= {(field.name, k): float(np.squeeze(x)) for k, x in columns.items()}
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize("layers", [1, 7, 20])
@pytest.mark.parametrize("states", [0.0, 1.0])
@pytest.mark.parametrize("activations", [0.0, 1.0])
def test_a_mixture_is_the_tally_of_so_many_layers(summed, layers, states, activations):
    mixed = mixture(layers / 20, states, activations).of(whole(summed))
    wanted = numbers(summed(layers, states, activations))
    assert numbers(mixed) == pytest.approx(wanted, rel=1e-12, abs=1e-15)
    assert set(wanted) <= set(numbers(mixed))


def test_tallies_stand_one_below_the_other_and_what_one_lacks_is_zero(summed):
    both = joined_tallies([summed(3), summed(3, 0.0, 0.0)], [1, 1])
    host, states, product = map(np.asarray, (both.axis["host"], both.states, both.product))
    assert host[0] > host[1] == 0
    assert states[0] > states[1] == 0
    assert product[0] == product[1] > 0
    assert joined_tallies([one := summed(1)], [1]) is one


def test_at_the_turning_shares_compute_just_covers_the_messages(summed):
    total = whole(summed)
    at_host, at_shards = turning_shares(total, mixture(0.5), C)
    for share, sent in (
        (at_host, lambda t: t.axis["host"]),
        (at_shards, lambda t: t.axis["dp_shard"]),
    ):
        mixed = mixture(share).of(total)
        assert float(np.squeeze(sent(mixed))) == pytest.approx(
            float(np.squeeze(C.compute_hides * mixed.compute)), rel=1e-9
        )


def test_where_compute_hides_nothing_nothing_turns(summed):
    bare = replace(C, compute_hides=0.0)
    shares = np.array(turning_shares(whole(summed), mixture(0.5), bare))
    assert np.all(shares == 0)


def test_device_time_is_convex_in_the_share(summed):
    total, shares = whole(summed), np.linspace(0, 1, 201)
    each = [mixture(share).of(total) for share in shares]
    device_s = np.array([
        float(np.squeeze(it.compute + hide(it.axis["host"], it.compute, 1.0, C))) for it in each
    ])  # fmt: skip
    assert np.all(np.diff(device_s, 2) >= -1e-12 * device_s[1:-1])
