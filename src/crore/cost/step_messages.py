"""Messages of a step: every collective and transfer, with its axis, buffer and how often.

Buffer conventions are those of `collectives`: what a rank holds after an all-gather or before a
reduce-scatter. Activations travel in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.collectives import Group
from crore.cost.constants import Constants
from crore.cost.job import Job
from crore.cost.machine import Machine
from crore.cost.operations import Axis, Operation
from crore.cost.schedules import transfers
from crore.cost.step_ends import expert_data_ranks, expert_shard_ranks
from crore.cost.step_layers import HALF


def layer_messages(job: Job) -> Iterator[Operation]:
    """Yield tensor-, context- and expert-parallel messages of one micro-batch's layers."""
    s, layout = job.shape, job.layout
    activations = HALF * job.tokens * s.hidden
    if present(np.greater(layout.tp, 1)):
        # A dense or mixer sub-layer gathers its input and reduces its output; experts with their
        # own parallelism do neither, except for a shared expert.
        mixers = s.attention + s.mamba + s.deltanet
        alone = np.equal(s.shared_ffn, 0) & np.not_equal(layout.etp, layout.tp)
        blocks = mixers * job.stage_share + job.stage_dense + job.stage_moe * (1 - alone)
        count = blocks * np.greater(layout.tp, 1)
        sequence = layout.sequence_parallel
        yield message("tp gather", "tp", "all_gather", activations, count * sequence)
        yield message("tp scatter", "tp", "reduce_scatter", activations, count * sequence)
        yield message("tp all-reduce", "tp", "all_reduce", activations, count * (1 - sequence))
    if present(np.greater(layout.cp, 1)):
        yield from _context_messages(job)
    if present(np.greater(layout.ep, 1)):
        routed = HALF * job.expert_tokens / layout.etp * s.hidden
        count = job.stage_moe * np.greater(layout.ep, 1)
        yield message("expert dispatch", "ep", "all_to_all", routed, count)
        yield message("expert combine", "ep", "all_to_all", routed, count)


def _context_messages(job: Job) -> Iterator[Operation]:
    """Ring attention: keys and values of every other context rank pass by each layer."""
    s, layout = job.shape, job.layout
    local = s.kv_heads * s.head_dim / np.minimum(layout.tp, np.maximum(s.kv_heads, 1.0)) * 2
    latent = s.heads * (s.qk_nope + s.qk_rope + s.v_dim) / layout.tp
    width = local * (1 - s.mla) + latent * s.mla
    buffer = HALF * job.tokens * layout.cp * width
    count = s.attention * job.stage_share * np.greater(layout.cp, 1)
    yield message("cp ring", "cp", "all_gather", buffer, count, backward=2.0, redo="core")


def pipeline_messages(job: Job) -> Iterator[Operation]:
    """Yield the activation a stage boundary passes on, per micro-batch and chunk."""
    layout = job.layout
    pipelined = np.greater(layout.pp, 1)
    if not present(pipelined):
        return
    scatter = np.maximum(job.stack.p2p_scatter, layout.sequence_parallel)
    parts = layout.tp * scatter + (1 - scatter)
    size = HALF * job.tokens * job.shape.hidden / parts
    chunks = transfers(layout.schedule, layout.vpp) * pipelined
    yield message("pp send", "pp", "p2p", size, chunks, stage="rank", launches=4.0)


def message(
    name: str, axis: Axis, collective: str, buffer: Num, count: Num, **fields: object
) -> Operation:
    """Return a collective of one micro-batch; `fields` replace what is usual."""
    values: dict[str, object] = {
        "kind": "collective", "name": name, "axis": axis, "collective": collective,
        "message_bytes": buffer, "count": count, "launches": 1.0, "backward": 1.0,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


def group_of(job: Job, axis: Axis, constants: Constants, expert: bool = False) -> Group:
    """Return the process group of an axis.

    Ranks are laid out tensor innermost, then context, then data parallel, pipeline outermost, so
    a group of stride `k` has `domain/k` members in one scale-up domain. `expert` asks for the
    data-parallel group of an expert's weights: its copies stand ep·etp apart.
    """
    machine = job.machine
    ranks, stride = _strided(job, axis, expert)
    inner = _members(machine.domain_size, stride, ranks)
    network = machine.nic_bytes_per_s * constants.nic_share
    return Group(
        ranks=ranks,
        inner=inner,
        inner_bytes_per_s=machine.domain_bytes_per_s * constants.domain_share,
        outer_bytes_per_s=network * uplink_share(machine, ranks, stride, inner, axis == "ep"),
        inner_latency_s=constants.domain_latency_s,
        outer_latency_s=constants.nic_latency_s + machine.hop_latency_s,
        multicast=np.greater(machine.asynchronous, 0),
    )


def _strided(job: Job, axis: Axis, expert: bool) -> tuple[Num, Num]:
    """Return the ranks of an axis's group, and how far apart they stand."""
    layout = job.layout
    tp, cp = layout.tp, layout.cp
    if axis in ("dp_shard", "dp_replicate"):
        everyone, shard, near = layout.dp * cp, layout.dp_shard * cp, tp
        if expert:
            everyone, shard = expert_data_ranks(job), expert_shard_ranks(job)
            near = layout.ep * layout.etp
        if axis == "dp_shard":
            return shard, near
        # Without shards all copies reduce together; with them, each shard across its replicas.
        split = np.where(np.greater_equal(layout.zero, 1), shard, 1.0)
        return np.maximum(everyone / split, 1.0), near * split
    if axis in ("pp", "tied"):
        stage = tp * cp * layout.dp
        if axis == "pp":
            return layout.pp, stage
        return np.minimum(layout.pp, 2.0), stage * np.maximum(layout.pp - 1, 1)
    if axis == "world":
        return layout.gpus, 1.0
    inside: dict[str, tuple[Num, Num]] = {
        "tp": (tp, 1.0), "cp": (cp, tp), "ep": (layout.ep, layout.etp),
    }  # fmt: skip
    return inside[axis]


def _members(block: Num, stride: Num, ranks: Num) -> Num:
    """Return how many ranks of a group stand in one block of neighbouring GPUs."""
    return np.minimum(np.maximum(np.floor(block / stride), 1.0), ranks)


def uplink_share(machine: Machine, ranks: Num, stride: Num, inner: Num, all_to_all: bool) -> Num:
    """Return the share of a rank's network bandwidth that a tapered fabric leaves a group.

    `inner` of its n ranks stand in one scale-up domain. Of q members in one full-bandwidth block a
    ring of domains sends `inner` links' worth out, so that `taper·q/inner` of the bandwidth
    suffices; of what an all-to-all sends over the network `(n - q)/(n - inner)` leaves the block.
    """
    if not present(np.less(machine.taper, 1)):
        return 1.0
    inside = np.maximum(_members(machine.pod_size, stride, ranks), inner)
    beyond = np.greater(ranks, inside)
    if all_to_all:
        leaving = (ranks - inside) / np.where(beyond, ranks - inner, 1.0)
    else:
        leaving = inner / inside
    return np.where(beyond, np.minimum(machine.taper / np.where(beyond, leaving, 1.0), 1.0), 1.0)
