"""What a stack's own code cannot run, beside the arithmetic that binds every stack.

`catalog/data/stacks.toml` lists the rules of a stack as words; here each word has its reason and
its mask. They are refused where they are decided: at a point of the grid, in a cell, at a setting,
or in the chain of recompute. Every mask is a bool or `[N]`, one entry per candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from crore.cost.arrays import Num
from crore.cost.layout import RECOMPUTE, Layout, indivisible
from crore.cost.schedules import chunks_per_rank, schedule_code
from crore.errors import InputError
from crore.plan.candidates import Candidates, Floats, Mask
from crore.plan.request import Question

ZERO_BUBBLE: Final = schedule_code("zb-v")
INTERLEAVED: Final = schedule_code("interleaved")
GPIPE: Final = schedule_code("gpipe")
ONE_BY_ONE: Final = schedule_code("1f1b")
FP8_TOKENS: Final = 16
"""Rows of a scaled product come in multiples of it (torch._scaled_mm)."""
FILL: Final = "fill-stages"
FILLS: Final[Mapping[str, int]] = {"gpipe": 0, "zb-v": 2}
"""Micro-batches per rank of a pipeline that torch's schedules ask for, where it is not one."""
UNFILLED: Final = "fewer micro-batches than pipeline stages"
Broken = Callable[[Question, Candidates], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that a stack cannot run."""

    reason: str
    """What settings that break it are counted under."""
    broken: Broken
    """Returns where it is broken."""


def _key_values(q: Question, it: Candidates) -> Any:
    return (q.model.mla is None) & indivisible(q.model.kv_heads, it.layout.tp)


def _vocabulary(q: Question, it: Candidates) -> Any:
    return indivisible(q.model.vocab, it.layout.tp)


def _heads_of_a_rank(q: Question, it: Candidates) -> Any:
    return indivisible(q.model.heads, it.layout.tp * it.layout.cp)


def _expert_tensor(_: Question, it: Candidates) -> Any:
    return np.greater(it.layout.etp, 1)


SPLITS: Final[Mapping[str, Rule]] = {
    "tp-key-values": Rule(
        reason="tp does not divide the key-value heads", broken=_key_values
    ),
    "tp-vocabulary": Rule(reason="tp does not divide the vocabulary", broken=_vocabulary),
    "cp-heads": Rule(
        reason="cp does not divide the attention heads of a rank", broken=_heads_of_a_rank
    ),
    "etp-one": Rule(
        reason="the stack does not split an expert's products (etp)", broken=_expert_tensor
    ),
}  # fmt: skip
"""Rules on what a degree divides: a pinned degree alone may break them."""


def _host_memory(q: Question, _: Candidates) -> bool:
    return q.request.fix.get("offload", "none") not in ("none", *q.abilities.offload)


def _odd_tokens(q: Question, it: Candidates) -> Any:
    tokens = it.layout.micro_batch * q.seq_len / it.layout.cp
    return (q.precision == "fp8") & indivisible(tokens, FP8_TOKENS)


def _other_schedule(q: Question, it: Candidates) -> Any:
    built = (None, *q.abilities.schedules)
    return (q.request.fix.get("schedule") not in built) & np.greater(it.layout.pp, 1)


def _routed_twice(q: Question, it: Candidates) -> Any:
    layout = it.layout
    return (q.model.experts > 0) & np.greater(layout.tp, 1) & np.equal(layout.sequence_parallel, 0)


def _parallel_experts(q: Question, it: Candidates) -> Any:
    return (q.model.experts > 0 and q.model.parallel_block) & np.greater(it.layout.tp, 1)


POINTS: Final[Mapping[str, Rule]] = {
    "fp8-tokens": Rule(
        reason="fp8 products take tokens by 16, and a pass of a rank has others",
        broken=_odd_tokens,
    ),
    "listed-offload": Rule(
        reason="the stack cannot keep in host memory what is pinned (offload)",
        broken=_host_memory,
    ),
    "listed-schedules": Rule(
        reason="the stack does not run the pipeline schedule that is pinned",
        broken=_other_schedule,
    ),
    "experts-sequence-parallel": Rule(
        reason="experts with tp need sequence parallelism, or ranks route the same tokens",
        broken=_routed_twice,
    ),
    "experts-after-attention": Rule(
        reason="experts beside their attention (a parallel block) are not built with tp",
        broken=_parallel_experts,
    ),
}  # fmt: skip
"""Rules on the other axes of the grid, and on pinned words."""


def _rounds(it: Candidates) -> Any:
    return it.batch / (it.layout.dp * it.layout.micro_batch)


def _fills(q: Question) -> list[int]:
    """Return the stages per rank that schedules need a micro-batch each for, rising."""
    pinned = q.request.fix.get("schedule")
    names = q.abilities.schedules if pinned is None else (str(pinned),)
    return sorted({FILLS.get(name, 1) for name in names})


def _too_few_for_any(q: Question, it: Candidates) -> Any:
    return np.greater(it.layout.pp, 1) & np.less(_rounds(it), min(_fills(q)) * it.layout.pp)


def least_rounds(q: Question, pp: Num) -> list[Floats]:
    """Return the micro-batches that a rank of a fleet has at least, `[N]` each, rising.

    One, or where a pipeline must be filled as many as some schedule of the stack needs.
    """
    if FILL not in q.abilities.rules:
        return [np.ones(np.shape(pp))]
    return [np.where(np.greater(pp, 1), np.maximum(fill * pp, 1.0), 1.0) for fill in _fills(q)]


CELLS: Final[Mapping[str, Rule]] = {
    FILL: Rule(
        reason=UNFILLED, broken=_too_few_for_any
    ),
}  # fmt: skip
"""Rules on the ranks and the batch of a cell, whatever is chosen inside."""


def _piped(it: Layout, schedule: int) -> Any:
    return np.greater(it.pp, 1) & np.equal(it.schedule, schedule)


def _fewer_than_stages(_: Question, it: Candidates) -> Any:
    layout = it.layout
    waits = _piped(layout, ONE_BY_ONE) | _piped(layout, ZERO_BUBBLE)
    return waits & np.less(_rounds(it), layout.pp * chunks_per_rank(layout.schedule, 1.0))


def _needless_gpipe(q: Question, it: Candidates) -> Any:
    filled = np.greater_equal(_rounds(it), it.layout.pp)
    return ("schedule" not in q.request.fix) & _piped(it.layout, GPIPE) & filled


def _uneven_rounds(_: Question, it: Candidates) -> Any:
    return _piped(it.layout, INTERLEAVED) & indivisible(_rounds(it), it.layout.pp)


def _expert_group(q: Question, it: Candidates) -> Any:
    layout = it.layout
    return (q.model.experts > 0) & indivisible(
        layout.dp_shard * layout.cp * layout.tp, layout.ep
    )  # fmt: skip


def _two_tables(q: Question, it: Candidates) -> Any:
    return bool(q.model.tied_embeddings) & _piped(it.layout, ZERO_BUBBLE)


def _weights_gone(q: Question, it: Candidates) -> Any:
    """FSDP gathers weights that several ranks share, or that products take in another format."""
    layout = it.layout
    holders = layout.dp / it.worlds * layout.cp
    experts = holders * layout.tp / layout.ep if q.model.experts else 1.0
    gathered = np.greater(np.maximum(holders, experts), 1) | (q.precision != "fp32")
    return np.equal(layout.zero, 3) & gathered & _piped(layout, ZERO_BUBBLE)


SETTINGS: Final[Mapping[str, Rule]] = {
    FILL: Rule(
        reason=UNFILLED, broken=_fewer_than_stages
    ),
    "gpipe-unfilled": Rule(
        reason="1f1b holds less than gpipe where micro-batches fill the stages",
        broken=_needless_gpipe,
    ),
    "interleaved-rounds": Rule(
        reason="interleaving needs micro-batches in multiples of pp", broken=_uneven_rounds
    ),
    "ep-replica": Rule(
        reason="ep does not divide the ranks of a sharded replica", broken=_expert_group
    ),
    "zb-v-one-table": Rule(
        reason="zb-v puts both ends on one rank, where a tied table would be two",
        broken=_two_tables,
    ),
    "zb-v-whole-weights": Rule(
        reason="zb-v takes weight gradients after fully sharded weights have gone",
        broken=_weights_gone,
    ),
}  # fmt: skip
"""Rules on the pipeline schedule, ZeRO stage and shard group inside a cell."""
BACK_TWICE: Final = "zb-v-whole-blocks"
"""Of the chain: zb-v goes back through a block for its input and then for each weight apart. A
selective checkpoint of torch refuses that, and a full one runs the block again each time, ten times
where it is dense (counted: 2.8 times the FLOPs of a step that recomputes once). Nothing recomputed
is always allowed, as the search takes for granted."""
BACK_TWICE_REASON: Final = "zb-v goes back once for each weight, and would recompute as often"
SOFTMAX: Final = "softmax-attention"
FORMATS: Final = "fp32-bf16-fp8"
WORDS: Final = frozenset({*SPLITS, *POINTS, *CELLS, *SETTINGS, BACK_TWICE, SOFTMAX, FORMATS})


def check_question(q: Question) -> None:
    """Raise InputError for a model or a precision that no layout makes runnable on the stack."""
    model, words = q.model, q.abilities.rules
    recurrent = model.mamba is not None or model.deltanet is not None or model.attention_gate
    if SOFTMAX in words and (recurrent or model.pattern):
        raise InputError(
            f"{model.name} has layers that stack {q.stack_name} does not build (Mamba-2, gated "
            f"DeltaNet or single mixers): --stack megatron-2025 plans it"
        )
    if FORMATS in words and q.precision not in FORMATS.split("-"):
        raise InputError(
            f"stack {q.stack_name} trains in fp32, bf16 or fp8, not {q.precision}: --precision "
            "fp32, or another --stack"
        )


def broken_rules(
    q: Question, candidates: Candidates, *tables: Mapping[str, Rule]
) -> Iterator[tuple[str, Mask]]:
    """Yield (reason, mask) for the rules of tables that the question's stack has.

    A mask broadcasts against the candidates' columns.
    """
    for table in tables:
        for word in q.abilities.rules:
            if word in table:
                rule = table[word]
                yield rule.reason, np.asarray(rule.broken(q, candidates), dtype=bool)


def forbids_mode(q: Question, candidates: Candidates, mode: int) -> Mask:
    """Tell the candidates that must not recompute in `mode`, an index into RECOMPUTE."""
    bound = BACK_TWICE in q.abilities.rules and mode != RECOMPUTE.index("none")
    return np.asarray(bound & _piped(candidates.layout, ZERO_BUBBLE), dtype=bool)
