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
from crore.cost.step_ends import expert_data_ranks, local_weights, stage_weights
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
        yield _message("tp gather", "tp", "all_gather", activations, count * sequence)
        yield _message("tp scatter", "tp", "reduce_scatter", activations, count * sequence)
        yield _message("tp all-reduce", "tp", "all_reduce", activations, count * (1 - sequence))
    if present(np.greater(layout.cp, 1)):
        yield from _context_messages(job)
    if present(np.greater(layout.ep, 1)):
        routed = HALF * job.expert_tokens / layout.etp * s.hidden
        count = job.stage_moe * np.greater(layout.ep, 1)
        yield _message("expert dispatch", "ep", "all_to_all", routed, count)
        yield _message("expert combine", "ep", "all_to_all", routed, count)


def _context_messages(job: Job) -> Iterator[Operation]:
    """Ring attention: keys and values of every other context rank pass by each layer."""
    s, layout = job.shape, job.layout
    local = s.kv_heads * s.head_dim / np.minimum(layout.tp, np.maximum(s.kv_heads, 1.0)) * 2
    latent = s.heads * (s.qk_nope + s.qk_rope + s.v_dim) / layout.tp
    width = local * (1 - s.mla) + latent * s.mla
    buffer = HALF * job.tokens * layout.cp * width
    count = s.attention * job.stage_share * np.greater(layout.cp, 1)
    yield _message("cp ring", "cp", "all_gather", buffer, count, backward=2.0, redo="core")


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
    yield _message("pp send", "pp", "p2p", size, chunks, stage="rank", launches=4.0)


def sharded_messages(job: Job) -> Iterator[Operation]:
    """Yield fully sharded gathers (each pass) and gradient scatters (each micro-batch).

    A layer gathered for its backward pass is recomputed from the same weights (arXiv 1910.02054
    §7.2.2: three volumes a step). Context ranks hold shards like data ranks. ZeRO-2 holds no whole
    gradients, so it scatters them every micro-batch too.
    """
    layout = job.layout
    several = np.greater(layout.dp_shard * layout.cp, 1)
    sharded, scattered = (np.greater_equal(layout.zero, z) & several for z in (3, 2))
    if not present(scattered):
        return
    plain, experts = stage_weights(job)
    layers = job.stage_layers
    buffer = HALF * (plain + experts) / layers
    gradients = buffer / HALF * job.stack.reduce_bytes
    count = layers * sharded
    yield _message(
        "shard gather", "dp_shard", "all_gather", buffer, count, backward=0.0, redo="never"
    )
    yield _message("shard gather again", "dp_shard", "all_gather", buffer, count, phase="backward")
    yield _message(
        "gradient scatter", "dp_shard", "reduce_scatter", gradients, layers * scattered,
        phase="backward",
    )  # fmt: skip


def step_messages(job: Job) -> Iterator[Operation]:
    """Yield what data parallelism sends once per step: gradients out, weights back.

    Shards are scattered and gathered inside a group of `dp_shard`; replicas of such groups, worlds
    of an island among them, then reduce each shard across.
    """
    layout = job.layout
    plain, experts = stage_weights(job)
    reduce_bytes = job.stack.reduce_bytes
    data: tuple[Axis, Axis] = ("dp_shard", "dp_replicate")
    yield from _data_messages(job, "", plain, layout.dp_shard * layout.cp, data)
    yield from _data_messages(job, "expert ", experts, expert_data_ranks(job), ("ep", "ep"))
    replicas = np.greater(layout.dp_replicate, 1) & np.greater_equal(layout.zero, 1)
    if present(replicas):
        # ZeRO-1 and 2 reduce experts over all their ranks at once, above.
        held = plain + experts * np.equal(layout.zero, 3)
        shard = held / layout.dp_shard * reduce_bytes
        yield _step("replica all-reduce", "dp_replicate", "all_reduce", shard, replicas * 1.0)
    tied = np.greater(layout.pp, 1) * job.shape.tied
    if present(tied):
        table = local_weights(job)[2] * reduce_bytes
        yield _step("tied table exchange", "pp", "p2p", 2 * table, tied)


def _data_messages(
    job: Job, name: str, elements: Num, ranks: Num, axes: tuple[Axis, Axis]
) -> Iterator[Operation]:
    """Yield scatter and gather (axis one), or the plain all-reduce of ZeRO-0 (axis two)."""
    if not present(elements):
        return
    zero, held = job.layout.zero, np.greater(elements, 0) * 1.0
    several, gradients = np.greater(ranks, 1) * held, elements * job.stack.reduce_bytes
    everyone = np.greater(job.layout.dp * job.layout.cp, 1) * held if axes[0] != "ep" else several
    yield _step(
        f"{name}gradient reduce-scatter", axes[0], "reduce_scatter", gradients,
        several * np.equal(zero, 1),
    )  # fmt: skip
    yield _step(
        f"{name}weight all-gather", axes[0], "all_gather", elements * HALF,
        several * (np.equal(zero, 1) | np.equal(zero, 2)),
    )  # fmt: skip
    yield _step(
        f"{name}gradient all-reduce", axes[1], "all_reduce", gradients,
        everyone * np.equal(zero, 0),
    )  # fmt: skip


def _message(
    name: str, axis: Axis, collective: str, buffer: Num, count: Num, **fields: object
) -> Operation:
    values: dict[str, object] = {
        "kind": "collective", "name": name, "axis": axis, "collective": collective,
        "message_bytes": buffer, "count": count, "launches": 1.0, "backward": 1.0,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


def _step(name: str, axis: Axis, collective: str, buffer: Num, count: Num) -> Operation:
    return _message(
        name, axis, collective, buffer, count, stage="rank", phase="step", repeat="step"
    )


def group_of(job: Job, axis: Axis, constants: Constants, expert_step: bool = False) -> Group:
    """Return the process group of an axis.

    Ranks are laid out tensor innermost, then context, then data parallel, pipeline outermost, so
    a group of stride `k` has `domain/k` members in one scale-up domain. `expert_step` asks for the
    data-parallel group of an expert shard (stride ep·etp).
    """
    layout, machine = job.layout, job.machine
    tp, cp = layout.tp, layout.cp
    strided: dict[str, tuple[Num, Num]] = {
        "tp": (tp, 1.0),
        "cp": (cp, tp),
        "ep": (layout.ep, layout.etp),
        "dp_shard": (layout.dp_shard * cp, tp),
        "dp_replicate": (layout.dp * cp, tp),
        "pp": (layout.pp, tp * cp * layout.dp),
    }
    ranks, stride = strided[axis]
    if expert_step:
        ranks, stride = expert_data_ranks(job), layout.ep * layout.etp
    if axis == "dp_replicate" and not expert_step:
        sharded = np.greater_equal(layout.zero, 1)
        ranks = np.where(sharded, layout.dp_replicate, ranks)
        stride = np.where(sharded, tp * cp * layout.dp_shard, stride)
    inner = _members(machine.domain_size, stride, ranks)
    network = machine.nic_bytes_per_s * constants.nic_share
    all_to_all = axis == "ep" and not expert_step
    return Group(
        ranks=ranks,
        inner=inner,
        inner_bytes_per_s=machine.domain_bytes_per_s * constants.domain_share,
        outer_bytes_per_s=network * uplink_share(machine, ranks, stride, all_to_all),
        inner_latency_s=constants.domain_latency_s,
        outer_latency_s=constants.nic_latency_s + machine.hop_latency_s,
        multicast=np.greater(machine.asynchronous, 0),
    )


def _members(block: Num, stride: Num, ranks: Num) -> Num:
    """Return how many ranks of a group stand in one block of neighbouring GPUs."""
    return np.minimum(np.maximum(np.floor(block / stride), 1.0), ranks)


def uplink_share(machine: Machine, ranks: Num, stride: Num, all_to_all: bool) -> Num:
    """Return the share of a rank's network bandwidth that a tapered fabric leaves a group.

    Of a ring's q members in one full-bandwidth block one link leaves it, so that `taper·q` of the
    bandwidth suffices; of an all-to-all `(n - q)/n` of the bytes leave it.
    """
    if not present(np.less(machine.taper, 1)):
        return 1.0
    inside = _members(machine.pod_size, stride, ranks)
    leaving = np.where(np.greater(ranks, inside), (ranks - inside) / ranks, 0.0)
    one_link = machine.taper * inside
    spread = machine.taper / np.where(leaving > 0, leaving, 1.0)
    share = spread if all_to_all else one_link
    return np.where(leaving > 0, np.minimum(share, 1.0), 1.0)
