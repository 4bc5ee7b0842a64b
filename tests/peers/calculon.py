"""Case C1: Calculon's search for GPT-3 175B on 4,096 A100, as candidates of our cost model.

The peer is github.com/calculon-ai/calculon (Apache-2.0; Isaev et al., SC23). Command:
`calculon llm-optimal-execution models/gpt3-175B.json 4096 4096 float16 a100_80g.json out.json -m
--no-tp-overlap --no-dp-overlap`, with the system file's second memory tier set to 0 GiB. Constants
are those of models/gpt3-175B.json and systems/a100_80g.json; no code of it is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crore.catalog import load_catalog
from crore.cost import Constants, Job, Layout, Machine, Memory, Stack, shape_of
from crore.cost.layout import FULL, SELECTIVE, rules
from crore.cost.schedules import schedule_code

Column = NDArray[np.float64]

GPUS, BATCH, SEQ = 4096, 4096, 2048
HIDDEN, FFN, HEADS, BLOCKS = 12288, 49152, 96, 96
MEMORY_BYTES: Final = 80 * 2**30
SMALL_NET: Final = 8
"""GPUs that network 0 (NVLink) joins; network 1 joins 65,536, more than there are."""
HALF: Final = 2
PEAK, HBM = 312e12, 2048e9
MATRIX: Final = ((0.0, 0.1), (1.0, 0.6), (16.0, 0.9), (128.0, 0.95))
"""Share of the peak by GFLOP of one product."""
MEMORY: Final = ((0.0, 0.3), (1.0, 0.6), (10.0, 0.75), (100.0, 0.9))
"""Share of the memory bandwidth by MB of one operation."""
RECOMPUTE: Final = (FULL, SELECTIVE, 0.0)
"""Its full, attn_only, none, in our codes and its order."""
ALL_REDUCE, P2P_SPLIT, SEQUENCE = 0.0, 1.0, 2.0
"""Its tensor-parallel messages ar, p2p_rs_ag (split at stage boundaries only), rs_ag."""

COUNTED, RUN, VALID = 177_804, 74_712, 13_062
"""Combinations it loops over (-d); those it runs with -m; those that fit, of these.

22 software choices (11 of recompute, messages and repeated gather, with and without a sharded
optimizer) x 8,082: over every (tp, pp, vpp), log2(tp pp) + 1 micro-batches x 2^k networks, k the
degrees above 1.
"""
STEP_S, HELD_BYTES = 11.8265, 69_537_988_608
"""Its best plan: seconds per step (346.34 samples/s), bytes of device memory."""
PARTS_S: Final = {
    "forward": 3.155, "backward": 6.020, "optimizer": 0.019, "recompute": 0.301, "bubble": 0.435,
    "tp": 1.094, "pp": 0.445, "dp": 0.242, "recompute messages": 0.115,
}  # fmt: skip
"""Where those seconds go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """Columns of its search space, in its own order."""

    tp: Column
    pp: Column
    dp: Column
    vpp: Column
    recompute: Column
    sharded: Column
    """1 with its optimizer_sharding (states and gradients cut over data-parallel ranks)."""
    messages: Column
    redo: Column
    """1 where the gather of sequence parallelism is repeated in the backward pass."""
    micro_batch: Column
    search: Column
    """Number of the inner loop over micro-batches, which `-m` cuts short."""
    tp_net: Column
    pp_net: Column
    dp_net: Column

    def where(self, mask: NDArray[np.bool_]) -> Space:
        """Return the rows that the mask keeps."""
        return Space(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})


def divisors(n: int) -> list[int]:
    """Return every divisor, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def searches() -> Iterator[tuple[float, ...]]:
    """Yield all of its choices but micro-batch and networks: 4,092 inner loops.

    tp divides GPUs, heads and width; pp divides min(GPUs/tp, 96), blocks and GPUs/tp; vpp divides
    the blocks of a stage; the gather is repeated or not only with rs_ag below full recompute.
    """
    for tp in (t for t in divisors(GPUS) if HIDDEN % t == 0 and HEADS % t == 0):
        for pp in divisors(min(GPUS // tp, BLOCKS)):
            if GPUS // tp % pp or BLOCKS % pp:
                continue
            for vpp in divisors(BLOCKS // pp) if pp > 1 else [1]:
                for recompute in RECOMPUTE:
                    for sharded in (1, 0):
                        for messages in (ALL_REDUCE, P2P_SPLIT, SEQUENCE):
                            again = messages == SEQUENCE and recompute != FULL
                            for redo in (1, 0) if again else (0,):
                                dp = GPUS // (tp * pp)
                                yield tp, pp, dp, vpp, recompute, sharded, messages, redo


def space() -> Space:
    """Return every combination it loops over: each search, micro-batch and choice of networks.

    A micro-batch divides the 4096/dp sequences of a rank. Each degree above 1 rides on network 0
    or 1: a factor of 8 where tp, pp and dp all exceed 1.
    """
    rows = [
        (*choice, size, number)
        for number, choice in enumerate(searches())
        for size in divisors(BATCH // int(choice[2]))
    ]
    table = np.array(rows, dtype=float)
    nets = np.indices((2, 2, 2)).reshape(3, -1).T.astype(float)
    every = np.hstack([np.repeat(table, len(nets), axis=0), np.tile(nets, (len(table), 1))])
    real = ((every[:, :3] > 1) | (every[:, 10:] == 0)).all(axis=1)
    return Space(**{f.name: column for f, column in zip(fields(Space), every[real].T, strict=True)})


def net_fits(s: Space) -> NDArray[np.bool_]:
    """True where the degrees on network 0 multiply to 8 at most (all are powers of two)."""
    on_net = [np.where(net == 0, n, 1) for n, net in _degrees(s)]
    room: NDArray[np.bool_] = on_net[0] * on_net[1] * on_net[2] <= SMALL_NET
    return room


def _degrees(s: Space) -> tuple[tuple[Column, Column], ...]:
    return (s.tp, s.tp_net), (s.pp, s.pp_net), (s.dp, s.dp_net)


def peer_bytes(s: Space) -> Column:
    """Return the memory it counts for a GPU: weights, activations, gradients, optimizer.

    Per block, in bytes: what all its layers hold while they run (`working`), what stays until the
    backward pass (`kept`), the gradients of activations. One block's weight gradient is in 32 bits
    and whole, the others in 16 bits and sharded; 12 bytes of states per weight.
    """
    tokens = s.micro_batch * SEQ
    whole = HALF * tokens * HIDDEN
    split = whole / s.tp
    sequence, parallel = s.messages == SEQUENCE, s.tp > 1
    outside = np.where(sequence, split, whole)
    wide = HALF * tokens * FFN / s.tp
    scores = 5 * s.micro_batch * HEADS / s.tp * SEQ**2
    gathered = np.where(sequence, split, 0) * parallel
    reduced = np.where(sequence, split, whole) * parallel
    full, core = s.recompute == FULL, s.recompute == SELECTIVE
    ends = 3 * outside + 2 * gathered
    working = ends + 2 * reduced + 2 * whole + 4 * split + scores + wide
    again = (full | core | (s.redo == 1)) * 1.0 + (full | (s.redo == 1))
    kept = ends + 4 * split + wide + (2 - again) * whole + ~(full | core) * scores
    gradients = 5 * outside + 2 * (gathered + reduced) + 4 * split + scores + wide + 2 * whole
    blocks = BLOCKS / s.pp
    flight = in_flight(s)
    stored = np.where(full, blocks * whole * flight, kept * (blocks * flight - 1))
    weights = block_weights(s)
    shards = np.where(s.sharded == 1, s.dp, 1)
    states = weights * (HALF * blocks + 4 + (HALF * (blocks - 1) + 12 * blocks) / shards)
    held: Column = states + working + stored + gradients
    return held


def block_weights(s: Space) -> Column:
    """Weight elements of one block on one rank: two LayerNorms, four projections, two products."""
    return 4 * HIDDEN + (4 * HIDDEN**2 + 2 * HIDDEN * FFN) / s.tp


def in_flight(s: Space) -> Column:
    """Micro-batches a first stage holds: min(pp, m), more with interleaving."""
    count = np.minimum(s.pp, BATCH / s.dp / s.micro_batch)
    held: Column = count * (1 + np.where(s.vpp > 1, (s.pp - 1) / (s.vpp * s.pp), 0))
    return held


def tried(s: Space) -> NDArray[np.bool_]:
    """True for what `-m` runs: a search ends at the first micro-batch that fits on no network.

    That one is run too. With everything on network 1 there is always room, so memory decides.
    """
    number = s.search.astype(int)
    smallest_miss = np.full(number.max() + 1, np.inf)
    misses = peer_bytes(s) > MEMORY_BYTES
    np.minimum.at(smallest_miss, number[misses], s.micro_batch[misses])
    run: NDArray[np.bool_] = s.micro_batch <= smallest_miss[number]
    return run


def product_flops_per_s(s: Space) -> Column:
    """FLOP/s it sustains in a block's linear products: its tables by size, both times added.

    Six products (query, key, value, output, up, down) of `2·T·n·k` FLOPs and `2(Tn + Tk + nk)`
    bytes each; processing_mode "no_overlap" adds the time of the bytes to that of the FLOPs.
    """
    tokens = s.micro_batch * SEQ
    flops, seconds = np.zeros_like(s.tp), np.zeros_like(s.tp)
    for width, often in ((HIDDEN, 4), (FFN, 2)):
        n = width / s.tp
        each = 2 * tokens * n * HIDDEN
        moved = HALF * (tokens * n + tokens * HIDDEN + n * HIDDEN)
        rate, bytes_per_s = _step(MATRIX, each / 1e9) * PEAK, _step(MEMORY, moved / 1e6) * HBM
        flops = flops + often * each
        seconds = seconds + often * (each / rate + moved / bytes_per_s)
    return flops / seconds


def _step(table: tuple[tuple[float, float], ...], size: Column) -> Column:
    starts, shares = zip(*table, strict=True)
    found: Column = np.array(shares)[np.searchsorted(starts, size, side="right") - 1]
    return found


def constants() -> Constants:
    """Return its efficiencies as our constants.

    Where ours has one share for all sizes it is the top row of its table (attention products: of
    the size they have). Tiles, waves and host time, which it does not have, are off. All-gather and
    reduce-scatter inside a node take 1.5 times a ring's time; 10 us per message there are spread
    over the 7 steps of a ring of 8.
    """
    return Constants(
        gemm_share=1.0, gemm_share_fp8=1.0, gemm_share_fp4=1.0, unmeasured_share=1.0,
        ample_power=1.0, grouped_share=1.0, expert_launches=1.0, wave_weight=0.0,
        small_tile_share=1.0, tile_prologue_s=0.0, batched_share=0.9, flash2_share=0.95,
        flash2_hopper_share=0.95, flash3_share=0.95, flash_backward=1.0, memory_share=0.9,
        traffic=(1.0,), quantize_traffic=1.0, host_launch_s=(0.0,), blocking_launch_s=0.0,
        host_message_s=0.0, host_step_s=0.0, domain_share=0.65 / 1.5, nic_share=0.9,
        domain_latency_s=10e-6 / 7, nic_latency_s=20e-6, tp_hidden=0.0, ep_hidden=0.0,
        compute_hides=0.0, interference=0.0, scan_share=0.95,
    )  # fmt: skip


def machine(s: Space) -> Machine:
    """Return its A100 as columns: a candidate's domain is what it puts on network 0.

    The measured rate of linear products is that of its tables, by candidate.
    Pipelines, and data parallelism without tensor parallelism, on network 0 have no counterpart and
    are priced on network 1. An all-reduce on network 0 takes 2/3 of a scatter and a gather.
    """
    inside = np.where(s.tp_net == 0, s.tp, 1)
    both = (s.tp_net == 0) & (s.dp_net == 0)
    split = s.messages == SEQUENCE
    return Machine(
        half_peak=PEAK, half_measured=PEAK, linear_peak=PEAK,
        linear_measured=product_flops_per_s(s),
        narrow=0.0, element_scale=1.0, asynchronous=0.0, watts_per_tflops=1.0, sms=108.0,
        memory_bytes=float(MEMORY_BYTES), memory_bytes_per_s=HBM, node_size=float(SMALL_NET),
        domain_size=np.where(both, inside * s.dp, inside),
        domain_bytes_per_s=np.where(split, 1.0, 1.5) * 300e9, nic_bytes_per_s=25e9,
        host_bytes_per_s=32e9, hop_latency_s=0.0,
    )  # fmt: skip


def stack(s: Space) -> Stack:
    """Return its software: unfused attention, no overlap, 16-bit weights and gradient messages.

    Its all-reduce on network 1 carries the buffer once where ours carries it twice: 1 byte for 2.
    """
    return Stack(
        code=0.0, flash=0.0, flash_native=0.0, tp_overlap=0.0, dp_overlap=0.0, p2p_overlap=0.0,
        launch_blocking=0.0, p2p_scatter=np.greater(s.messages, ALL_REDUCE) * 1.0,
        accumulate_bytes=0.0, dropout=1.0, narrow_saves=0.0, weight_bytes=2.0,
        grad_bytes=HALF + HALF * s.pp / BLOCKS, reduce_bytes=np.where(s.sharded == 1, 2.0, 1.0),
        optimizer_bytes=12.0, fused_cross_entropy=0.0, selective_kept=1.0, gradient_copy_bytes=0.0,
        keeps_outputs=0.0, eager=0.0, expert_tp=1.0,
    )  # fmt: skip


def layout(s: Space) -> Layout:
    """Return the candidates as our layouts; its sharded optimizer cuts gradients too: ZeRO-2."""
    interleaved = float(schedule_code("interleaved"))
    plain = float(schedule_code("1f1b"))
    return Layout(
        pp=s.pp, vpp=s.vpp, dp_shard=s.dp, tp=s.tp, micro_batch=s.micro_batch,
        schedule=np.where(s.vpp > 1, interleaved, plain),
        sequence_parallel=((s.messages == SEQUENCE) & (s.tp > 1)) * 1.0,
        recompute=s.recompute, zero=2.0 * s.sharded,
    )  # fmt: skip


def job(s: Space) -> Job:
    """Return the question: 96 blocks without embeddings, biases or a head."""
    gpt3 = shape_of(load_catalog().model("gpt3-175b"))
    none: dict[str, Any] = {"vocab": 0.0, "tied": 0.0, "positions": 0.0, "bias": 0.0}
    return Job(
        shape=replace(gpt3, **none), layout=layout(s), machine=machine(s), stack=stack(s),
        seq_len=float(SEQ), global_batch=float(BATCH),
    )  # fmt: skip


def usable(s: Space, asked: Job, held: Memory) -> NDArray[np.bool_]:
    """True where the networks have room by its rule, and the plan is one of ours that fits."""
    mask: NDArray[np.bool_] = net_fits(s) & np.asarray(held.fits)
    for _, broken in rules(asked.layout, asked.shape, asked.global_batch, GPUS, SEQ):
        mask = mask & ~broken
    return mask


def is_best_of_peer(s: Space) -> NDArray[np.bool_]:
    """True for the one plan it found best."""
    plan = {
        "tp": 4, "pp": 16, "vpp": 6, "micro_batch": 1, "recompute": SELECTIVE, "sharded": 0,
        "messages": SEQUENCE, "redo": 0, "tp_net": 0, "pp_net": 1, "dp_net": 1,
    }  # fmt: skip
    found: NDArray[np.bool_] = np.all([getattr(s, k) == v for k, v in plan.items()], axis=0)
    return found
