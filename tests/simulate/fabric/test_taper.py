"""What a tapered fabric leaves a group: the planner's closed form against every flow at once."""

from __future__ import annotations

import numpy as np
import pytest

from crore.catalog import load_catalog
from crore.cost.machine import machine_of, on_network
from crore.cost.step_messages import uplink_share
from crore.simulate.fabric.fluid import finish_s
from crore.simulate.fabric.patterns import Flows
from crore.simulate.fabric.routes import spray
from crore.simulate.fabric.trees import Tree, folded_clos

POD, PODS, NIC = 16, 8, 50e9
GPU = machine_of(load_catalog().accelerator("h100-sxm"), "bf16")


def groups(ranks, stride):
    """Return [groups, ranks]: all GPUs in groups of so many, that far apart."""
    every = np.arange(POD * PODS).reshape(-1, ranks, stride)
    return np.moveaxis(every, 1, 2).reshape(-1, ranks)


def flows_of(ranks, stride, inner, all_to_all):
    """Return what the network carries when domains join `inner` neighbours of a group."""
    source, target = [], []
    for group in groups(ranks, stride):
        place = np.arange(ranks)
        if all_to_all:
            one, two = np.nonzero(place[:, None] // inner != place // inner)
        else:
            one, two = place, (place + inner) % ranks
        source.append(group[one])
        target.append(group[two])
    return Flows(source=np.concatenate(source), target=np.concatenate(target))


def seconds(uplinks, flows):
    hall = folded_clos(Tree(down=(POD, PODS), up=(1, uplinks), nic_bytes_per_s=NIC))
    return finish_s(spray(hall, flows), hall.bytes_per_s, np.full(len(flows), 1e9)).max()


@pytest.mark.parametrize("all_to_all", [False, True], ids=["ring", "all-to-all"])
@pytest.mark.parametrize("uplinks", [2, 4, 8])
@pytest.mark.parametrize(
    ("ranks", "stride", "inner"),
    [(32, 1, 1), (64, 1, 1), (16, 2, 1), (32, 2, 1), (8, 4, 1), (4, 8, 1), (8, 16, 1), (4, 32, 1),
     (32, 1, 4), (64, 1, 8), (128, 1, 16), (32, 2, 2), (32, 2, 4), (16, 1, 4)],
)  # fmt: skip
def test_a_group_gets_of_a_tapered_network_what_the_planner_reckons(
    ranks, stride, inner, uplinks, all_to_all
):
    machine = on_network(GPU, hop_latency_s=0.0, taper=uplinks / POD, pod_size=float(POD))
    share = uplink_share(machine, float(ranks), float(stride), float(inner), all_to_all)
    flows = flows_of(ranks, stride, inner, all_to_all)
    assert seconds(POD, flows) / seconds(uplinks, flows) == pytest.approx(float(share), rel=1e-9)
