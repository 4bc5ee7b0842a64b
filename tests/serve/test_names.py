"""Every number of a model has one place in a layout, and every place one number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.kinds import KINDS

from crore.serve.layouts import LAYOUTS, layout_of
from crore.serve.names import gguf_name, idle_experts, links, shapes

SPECS = st.sampled_from(sorted(KINDS.values(), key=lambda spec: spec.name))


@given(SPECS)
def test_links_take_each_tensor_whole_and_once(spec):
    known, layout = shapes(spec), layout_of(spec)
    taken = dict.fromkeys(known, 0)
    for link in links(spec, layout):
        shape = known[link.ours] if link.expert is None else known[link.ours][1:]
        if link.last is not None:
            assert link.last - link.first == shape[0]
        taken[link.ours] += math.prod(shape)
    assert taken == {name: math.prod(shape) for name, shape in known.items()}


@given(SPECS)
def test_rows_of_a_packed_matrix_do_not_overlap(spec):
    packed: dict[str, list[tuple[int, int]]] = {}
    for link in links(spec, LAYOUTS["baichuan"]):
        if link.last is not None:
            packed.setdefault(link.theirs, []).append((link.first, link.last))
    assert len(packed) == spec.layers
    if spec.heads == spec.kv_heads:
        for spans in packed.values():
            assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])]


@pytest.mark.parametrize("name", KINDS)
def test_no_two_tensors_share_a_name_in_gguf(name):
    spec, layout = KINDS[name], layout_of(KINDS[name])
    names = [gguf_name(ours, layout) for ours in shapes(spec)]
    names += [gguf for _, gguf, _ in idle_experts(spec, layout)]
    assert len(set(names)) == len(names)


def test_an_idle_expert_is_there_where_the_layout_asks_for_one_and_the_model_has_none():
    asked = {name for name, spec in KINDS.items() if list(idle_experts(spec, layout_of(spec)))}
    assert asked == {"mixture-tied", "one-expert"}
