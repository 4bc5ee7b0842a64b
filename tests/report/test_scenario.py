"""A scenario is the tail of an address; what one reads back is what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError, UnknownName
from crore.plan import PlanRequest
from crore.report.scenario import KEYS, MOST_CHARS, read, request_from, scenario_of, written

COUNT = st.integers(1, 10**15)
WORD = st.text(min_size=1, max_size=40)
SCENARIO = st.fixed_dictionaries(
    {"model": WORD},
    optional={"gpu": WORD, "gpus": COUNT.map(str), "tokens": COUNT.map(str), "precision": WORD},
)


@given(SCENARIO)
def test_what_is_read_is_what_was_written(scenario):
    assert read(f"https://example.org/x#{written(scenario)}") == scenario


@given(
    st.builds(
        PlanRequest, model=st.just("llama-3.1-8b"), gpu=st.just("h100-sxm"), gpus=COUNT,
        tokens=st.none() | COUNT, seq_len=st.none() | COUNT, global_batch=st.none() | COUNT,
        basis=st.sampled_from(["", "owned", "rented"]),
        fix=st.just({"tp": 8, "schedule": "1f1b"}) | st.just({}),
    )
)  # fmt: skip
def test_a_request_comes_back_whole(request_):
    assert request_from(read(written(scenario_of(request_)))) == request_


def test_what_is_pinned_beside_it_is_no_part_of_the_scenario():
    assert read("s=1;model=x;gpus=8;pins=8,gpus%3D20%3Bmodel%3Dy") == {"model": "x", "gpus": "8"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s=1;model=x;gpus=8;gpus=9", "each thing once"),
        ("", "ends in"), ("s=2;model=x", "ends in"), ("model=x", "ends in"),
        ("s=1;model=x;" + "a" * MOST_CHARS, "at most"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_is_one_line(text, why):
    with pytest.raises(InputError, match=why) as raised:
        read(text)
    assert len(str(raised.value)) <= 240


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ({"gpus": "8"}, "names its model"),
        ({"model": "x", "gpus": "-5"}, "did you mean 5"),
        ({"model": "x", "gpus": "many"}, "positive whole number"),
        ({"model": "x", "gpus": 8}, "word or a number"),
        ({"model": "x", "fix": "tp=zero"}, "fix tp"),
        ({"model": ""}, "word or a number"),
    ],
)
def test_a_bad_value_is_one_line(scenario, why):
    with pytest.raises(InputError, match=why) as raised:
        request_from(scenario)
    assert len(str(raised.value)) <= 240


@pytest.mark.parametrize("key", ["catalog_file", "limits", "modle", "__class__"])
def test_a_key_that_no_scenario_has_is_refused(key):
    assert key not in KEYS
    with pytest.raises(UnknownName):
        request_from({"model": "x", key: "1"})
