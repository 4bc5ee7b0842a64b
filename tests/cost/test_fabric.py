"""Networks count, reach and cost what their published forms say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog.parts import part
from crore.cost.fabric import design, radix_of
from crore.cost.fabric_choices import choices
from crore.cost.fabric_counts import mms, polarity, prime_powers
from crore.cost.fabric_torus import torus
from crore.errors import MAX_MESSAGE_CHARS, Infeasible, InputError, UnknownName

GBIT_400, GBIT_800 = 50e9, 100e9
TEN_MILLION = 10_000_000


@pytest.mark.parametrize(
    ("topology", "form", "endpoints", "switches", "links"),
    [
        ("clos", {"tiers": 2}, 2_048, 96, 2_048),
        ("rail-only", {"tiers": 2, "rails": 8}, 16_384, 768, 16_384),
        ("clos", {"tiers": 3}, 65_536, 5_120, 131_072),
    ],
)
def test_64_ports_give_deepseeks_table(topology, form, endpoints, switches, links):
    """Insights into DeepSeek-V3 (arXiv 2505.09343), table 3; its eight planes are eight rails."""
    full = design(topology, endpoints, GBIT_400, switch="25.6t", **form)
    assert full.radix == 64
    assert full.max_endpoints == endpoints
    assert (full.switches, full.links) == (switches, links)
    with pytest.raises(InputError, match=f"at most {endpoints:,}"):
        design(topology, endpoints + 1, GBIT_400, switch="25.6t", **form)


def test_deepseeks_dragonfly_leaves_two_groups_out():
    """Theirs is 511 groups of 512; ah + 1 = 513 groups fit."""
    built = design("dragonfly", 261_632, GBIT_400, switch="25.6t")
    assert (built.switches, built.links) == (16_352, 384_272)
    assert built.max_endpoints == 513 * 512


def test_deepseeks_slim_fly_is_of_an_order_that_has_no_field():
    """Their row is q = 28, no prime power; 64 ports reach further with q = 29."""
    switches, degree = mms(28)
    assert (switches, switches * (degree // 2), switches * degree // 2) == (1_568, 32_928, 32_928)
    assert 28 not in prime_powers(64)
    built = design("slim-fly", 32_928, GBIT_400, switch="25.6t")
    assert (built.max_endpoints, built.switches) == (35_322, 1_682)


def test_eight_planes_of_a_51_terabit_switch_reach_131_072_in_two_tiers():
    """Two thirds of the optics and three fifths of the switches of three (arXiv 2605.04333)."""
    two = design("clos", 131_072, GBIT_800, switch="51.2t", planes=8, tiers=2)
    three = design("clos", 131_072, GBIT_800, switch="51.2t", planes=8, tiers=3)
    assert (two.radix, two.max_endpoints) == (512, 131_072)
    assert 5 * two.switches == 3 * three.switches

    def optics(built):  # those of the hosts are on copper here and optical there
        return built.optic_ends + 2 * built.endpoints

    assert 3 * optics(two) == 2 * optics(three)


FIVE, TEN = {"switch": "51.2t", "planes": 8}, {"switch": "102.4t", "planes": 8}


@pytest.mark.parametrize(
    ("topology", "form", "each", "reach", "row"),
    [
        # row: switches in thousands, optic ends in millions, $bn, W per GPU, diameter, bisection
        ("clos", TEN | {"planes": 1, "tiers": 3}, 500_000, 524_288, (391, 40, 78, 152, 5, 1)),
        ("clos", TEN | {"planes": 1, "tiers": 4}, TEN_MILLION, 33_554_432,
         (547, 60, 105, 208, 7, 1)),
        ("clos", FIVE | {"tiers": 3}, TEN_MILLION, 33_554_432, (781, 40, 78, 156, 5, 1)),
        ("clos", FIVE | {"tiers": 3, "taper": 0.25}, TEN_MILLION, 33_554_432,
         (313, 10, 37, 68, 5, 0.25)),
        ("clos", TEN | {"tiers": 2}, 524_288, 524_288, (234, 20, 51, 95, 3, 1)),
        ("clos", TEN | {"tiers": 2, "taper": 0.25}, 524_288, 524_288, (117, 5, 30, 53, 3, 0.25)),
        ("rail-only", TEN | {"tiers": 2, "rails": 72}, TEN_MILLION, 37_748_736,
         (235, 20, 51, 95, 3, 1)),
        ("slim-fly", FIVE, 17_519_860, 17_519_860, (471, 20, 51, 98, 3, 0.67)),
        ("polarfly", FIVE, 19_250_283, 19_250_283, (473, 20, 51, 98, 3, 0.95)),
        ("dragonfly", FIVE, TEN_MILLION, 1_073_774_592, (625, 30, 64, 126, 4, 0.5)),
        ("hyperx-3d", FIVE, TEN_MILLION, 274_726_912, (611, 10, 50, 95, 4, 0.16)),
    ],
)  # fmt: skip
def test_ten_million_endpoints_of_800_gigabit(topology, form, each, reach, row):
    """Rows of one site, or of a graph that comes whole, are scaled to ten million."""
    one = design(topology, each, GBIT_800, **form)
    copies = TEN_MILLION / each
    assert one.max_endpoints == reach
    assert row == (
        round(one.switches * copies / 1e3),
        round(one.optic_ends * copies / 1e6),
        round(one.price_usd.value * copies / 1e9),
        round(one.power_w / each),
        one.diameter,
        round(one.bisection, 2),
    )


@pytest.mark.parametrize(
    ("topology", "form", "switches", "links", "ends"),
    [
        ("clos", TEN | {"planes": 1, "tiers": 4}, 546_875, 30_000_000, 60_000_000),
        ("clos", FIVE | {"tiers": 3}, 781_264, 160_000_000, 40_000_000),
        ("clos", FIVE | {"tiers": 3, "taper": 0.25}, 312_512, 40_000_000, 10_000_000),
        ("rail-only", TEN | {"tiers": 2, "rails": 72}, 235_008, 80_000_064, 20_000_016),
        ("dragonfly", FIVE, 625_000, 119_687_504, 29_921_876),
        ("slim-fly", FIVE, 583_696, 83_760_376, 20_940_094),
        ("hyperx-3d", FIVE, 610_688, 38_473_344, 9_618_336),
    ],
)
def test_whole_switches_for_ten_million(topology, form, switches, links, ends):
    built = design(topology, TEN_MILLION, GBIT_800, **form)
    assert (built.switches, built.links, built.optic_ends) == (switches, links, ends)


def test_a_torus_of_216_cubed_has_no_packet_switches():
    built = torus(TEN_MILLION, GBIT_800)
    assert (built.max_endpoints, built.switches, built.links) == (10_077_696, 0, 30_233_088)
    ports = {item.name: item.count for item in built.bill_of_materials}["ocs"]
    assert ports == 15_116_544
    assert ports / 2 == built.links / 4  # a quarter of the cables is optical
    assert built.diameter == 324
    # Two links per edge² cross any halving: 0.0093 per chip, each a sixth of a chip's bandwidth.
    assert built.bisection * 6 / 2 == pytest.approx(2 * 216**2 / 216**3)


@given(endpoints=st.integers(1, 10**12))
def test_a_torus_is_the_smallest_of_whole_blocks_that_holds_its_endpoints(endpoints):
    edge = torus(endpoints, GBIT_800).diameter * 2 // 3
    assert edge % 4 == 0
    assert (edge - 4) ** 3 < endpoints <= edge**3


def adjacency(nodes, joined):
    return np.array([[a != b and joined(a, b) for b in nodes] for a in nodes], dtype=float)


def slim_fly_graph(q, root):
    """The graph of McKay, Miller and Širáň of a prime q = 4w + 1 with that primitive root."""
    even = {pow(root, e, q) for e in range(0, q - 1, 2)}
    nodes = [(s, x, y) for s in (0, 1) for x in range(q) for y in range(q)]

    def joined(a, b):
        if a[0] == b[0]:
            return a[1] == b[1] and ((a[2] - b[2]) % q in even) == (a[0] == 0)
        (_, x, y), (_, m, c) = sorted((a, b))
        return (m * x + c - y) % q == 0

    return adjacency(nodes, joined)


def polarity_graph(q):
    """Points of the projective plane over a prime field, joined when orthogonal."""
    points = [(1, a, b) for a in range(q) for b in range(q)]
    points += [(0, 1, a) for a in range(q)] + [(0, 0, 1)]
    return adjacency(points, lambda a, b: sum(x * y for x, y in zip(a, b, strict=True)) % q == 0)


@pytest.mark.parametrize(
    ("graph", "counts", "second"),
    [
        (slim_fly_graph(5, 2), mms(5), 7 - 5),
        (slim_fly_graph(13, 2), mms(13), 19 - 13),
        (polarity_graph(5), polarity(5), 5**0.5),
        (polarity_graph(7), polarity(7), 7**0.5),
    ],
    ids=["slim-fly 5", "slim-fly 13", "polarfly 5", "polarfly 7"],
)
def test_the_graphs_have_the_counts_diameter_and_eigenvalue_of_their_closed_forms(
    graph, counts, second
):
    assert (len(graph), graph.sum(axis=1).max()) == counts
    assert (graph + graph @ graph + np.eye(len(graph)) > 0).all()  # diameter 2: three switches
    # A point orthogonal to itself is a loop, which no cut crosses; with it all degrees are equal.
    loops = counts[1] - graph.sum(axis=1)
    assert np.linalg.eigvalsh(graph + np.diag(loops))[-2] == pytest.approx(second)


def test_a_bill_adds_up_and_lists_every_part():
    built = design("clos", 1_000, GBIT_400, switch="51.2t", tiers=2, taper=0.5)
    lines = {item.name: (item.count, item.unit_usd) for item in built.bill_of_materials}
    assert lines == {
        "51.2t": (16, 45_000),  # 12 leaves, 4 spines of 128 ports
        "dsp": (500, 600),  # 500 links of 400G, two to a module at either end
        "fibre": (250, 120),
        "dac": (500, 150),
        "nic": (1_000, 1_500),
    }
    assert built.price_usd.value == sum(n * usd for n, usd in lines.values())
    assert built.price_usd.low < built.price_usd.value < built.price_usd.high
    assert built.power_w == pytest.approx(16 * 900 + 500 * 15 + 500 * 0.2 + 1_000 * 25)
    assert built.pod_endpoints == 85  # 85 ports down, 43 up
    assert built.bisection == 0.5


def test_better_optics_save_power_alone():
    dsp, cpo = (design("clos", 2_000, GBIT_800, switch="51.2t", optics=o) for o in ("dsp", "cpo"))
    assert (dsp.power_w - cpo.power_w) / dsp.optic_ends == pytest.approx(15 - 5.4)
    assert dsp.optic_ends == cpo.optic_ends


def test_lanes_bound_the_ports_of_a_switch():
    assert radix_of(part("51.2t", "switch"), GBIT_800, 8) == 512
    assert radix_of(part("51.2t", "switch"), GBIT_400, 8) == 512
    with pytest.raises(InputError, match="has 4 ports"):
        radix_of(part("51.2t", "switch"), 16 * GBIT_800, 1)


@pytest.mark.parametrize(
    ("topology", "changes", "message"),
    [
        ("clos", {"endpoints": 0}, "at least 1 endpoint"),
        ("clos", {"planes": 0}, "1 plane"),
        ("clos", {"nic_bytes_per_s": 0.0}, "over 0 bytes/s"),
        ("clos", {"taper": 0.0}, "taper is over 0"),
        ("clos", {"tiers": 1, "taper": 0.5}, "no uplinks"),
        ("clos", {"tiers": 5}, "tiers is 1 to 4, not 5"),
        ("clos", {"rails": 8}, "only networks of rails"),
        ("rail-only", {}, "only networks of rails have several"),
        ("rail-optimised", {}, "only networks of rails have several"),
        ("rail-optimised", {"rails": 8, "tiers": 1}, "or join rails"),
        ("rail-optimised", {"rails": 72, "tiers": 2}, "at most 0"),
        ("dragonfly", {"taper": 0.5, "endpoints": 5_000}, "no tiers and no taper"),
        ("dragonfly", {}, "too few for dragonfly.*at least 513; use a clos"),
        ("clos", {"endpoints": 10**9}, "1,000,000,000 endpoints exceed clos.*at most 2,097,152"),
    ],
)
def test_what_no_network_can_be_is_refused(topology, changes, message):
    asked = {"endpoints": 64, "nic_bytes_per_s": GBIT_800, "switch": "51.2t"} | changes
    with pytest.raises(InputError, match=message) as refusal:
        design(topology, **asked)
    assert len(str(refusal.value)) <= MAX_MESSAGE_CHARS


@pytest.mark.parametrize(("topology", "switch"), [("butterfly", "51.2t"), ("clos", "51t")])
def test_an_unknown_name_is_refused(topology, switch):
    with pytest.raises(UnknownName):
        design(topology, 64, GBIT_800, switch=switch)


SIZES = st.integers(1, 3_000_000)
FORMS = st.fixed_dictionaries(
    {
        "switch": st.sampled_from(["25.6t", "51.2t", "102.4t"]),
        "planes": st.sampled_from([1, 2, 4, 8]),
        "tiers": st.sampled_from([None, 2, 3, 4]),
    }
)
NICS = st.sampled_from([25e9, GBIT_400, GBIT_800])


def built_or_none(topology, endpoints, nic, **form):
    try:
        return design(topology, endpoints, nic, **form)
    except InputError:
        return None


@given(a=SIZES, b=SIZES, nic=NICS, form=FORMS)
def test_more_endpoints_never_need_fewer_parts(a, b, nic, form):
    few, many = (built_or_none("clos", n, nic, **form) for n in sorted((a, b)))
    if many is not None:
        assert few is not None
        assert few.switches <= many.switches
        assert few.links <= many.links
        assert few.price_usd.value <= many.price_usd.value


@given(a=SIZES, b=SIZES, nic=NICS, topology=st.sampled_from(["dragonfly", "slim-fly", "polarfly"]))
def test_nor_do_they_in_a_network_without_levels(a, b, nic, topology):
    few, many = (built_or_none(topology, n, nic, switch="51.2t", planes=8) for n in sorted((a, b)))
    if few is not None and many is not None:
        assert few.switches <= many.switches
        assert few.links <= many.links


@given(endpoints=SIZES, nic=NICS, form=FORMS, taper=st.floats(0.05, 1.0))
def test_taper_never_costs_more(endpoints, nic, form, taper):
    full = built_or_none("clos", endpoints, nic, **form)
    tapered = built_or_none("clos", endpoints, nic, **form, taper=taper)
    if full is not None and tapered is not None:
        assert tapered.price_usd.value <= full.price_usd.value
        assert tapered.power_w <= full.power_w
        assert tapered.pod_endpoints <= full.pod_endpoints


@given(endpoints=SIZES, nic=NICS, form=FORMS, taper=st.floats(0.05, 1.0))
def test_whole_switches_exceed_the_closed_form_by_less_than_one_per_tier(
    endpoints, nic, form, taper
):
    built = built_or_none("clos", endpoints, nic, **form, taper=taper)
    if built is not None and built.tiers > 1:
        n, k, f, planes = endpoints, built.tiers, built.taper, built.planes
        exact = n * (1 + f + 2 * f * (k - 2) + f) / built.radix * planes
        assert exact - 1e-6 <= built.switches < exact + k * planes


@given(endpoints=SIZES, nic=NICS, rails=st.sampled_from([1, 8, 72]))
def test_choices_hold_the_endpoints_and_none_beats_another(endpoints, nic, rails):
    found = choices(endpoints, nic, rails=rails)
    assert [d.price_usd.value for d in found] == sorted(d.price_usd.value for d in found)
    assert all(d.endpoints == endpoints <= d.max_endpoints for d in found)
    merits = [(d.price_usd.value, d.power_w, d.diameter, -d.bisection, d.rails) for d in found]
    for one in merits:
        assert not [o for o in merits if o != one and np.less_equal(o, one).all()]
    assert rails > 1 or all(d.topology != "rail-only" for d in found)


def test_the_cheapest_for_ten_million_is_rail_only_with_taper():
    found = choices(TEN_MILLION, GBIT_800, rails=72)
    first, last = found[0], found[-1]
    assert (first.topology, first.switch, first.planes, first.tiers, first.taper) == (
        "rail-only", "102.4t", 8, 2, 0.25,
    )  # fmt: skip
    assert (last.topology, last.tiers, last.bisection) == ("clos", 3, 1.0)


def test_what_no_fabric_holds_is_infeasible():
    with pytest.raises(Infeasible, match="split them over sites"):
        choices(10**13, GBIT_800)


@pytest.mark.parametrize(
    ("endpoints", "nic", "rails"),
    [(0, GBIT_800, 1), (8, 0.0, 1), (8, float("nan"), 1), (8, 1e9, 0)],
)
def test_choices_refuse_what_is_no_request(endpoints, nic, rails):
    with pytest.raises(InputError, match="choices need"):
        choices(endpoints, nic, rails=rails)
    with pytest.raises(UnknownName):
        choices(8, GBIT_800, optics="dps")
