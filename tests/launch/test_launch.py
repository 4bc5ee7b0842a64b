"""A plan gives worlds, nodes and steps that multiply to what it says."""

from __future__ import annotations

import math

import pytest

from crore.catalog import load_catalog
from crore.errors import InputError
from crore.launch import launch_of

NAMES = ("dense", "405b", "experts", "one card", "fleet", "processor")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_launch_says_multiplies_to_the_plan(make, bodies, name):
    launch, body = make(name), bodies[name]
    layout = launch.layout
    assert launch.worlds * layout.ranks == body["gpus"]
    assert launch.nodes * launch.node_gpus == layout.ranks
    assert launch.worlds * launch.sequences * launch.seq_len == body["global_batch_tokens"]
    assert launch.sequences % (layout.dp * layout.micro_batch) == 0
    assert (launch.steps - 1) * body["global_batch_tokens"] < body["tokens"]
    assert launch.steps * body["global_batch_tokens"] >= body["tokens"]


def test_ten_million_is_worlds_of_one_pipeline_copy(make):
    launch = make("fleet")
    assert launch.is_fleet
    assert launch.layout.ranks * launch.worlds + launch.spares == 10_000_000
    assert sum(len(launch.worlds_of(island)) for island in range(launch.islands)) == launch.worlds


def test_the_nodes_are_the_machines_unless_told(bodies, make):
    assert make("dense").node_gpus == 8
    assert make("one card").node_gpus == 1
    assert make("processor").node_gpus == 2
    assert launch_of(bodies["dense"], load_catalog(), node_gpus=4).nodes == 16


def test_ranks_that_do_not_divide_leave_cards_idle(bodies):
    launch = launch_of(bodies["dense"], load_catalog(), node_gpus=6)
    assert (launch.node_gpus, launch.nodes, launch.node_size) == (4, 16, 6)


@pytest.mark.parametrize(
    ("place", "value"), [("gpus", 63), ("global_batch_tokens", 8191), ("worlds", 7), ("islands", 2)]
)
def test_a_plan_that_contradicts_itself_is_refused(bodies, place, value):
    with pytest.raises(InputError):
        launch_of({**bodies["dense"], place: value}, load_catalog())


def test_names_are_labels(make):
    name = make("405b", name="Llama_3.1 405B / by someone with a very long name").name
    assert len(name) <= 40
    assert math.prod(c.isalnum() or c == "-" for c in name)
    assert name == name.lower().strip("-")
