"""The models and layouts that are compared with one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.train.parity import Case

from crore.catalog import load_catalog
from crore.catalog.types import MLA, ModelSpec
from crore.model.parallelize import BuildOptions
from crore.model.split import Split


def shape(base: ModelSpec, **fields: Any) -> ModelSpec:
    """Return a model with some fields of its shape changed."""
    return dataclasses.replace(base, **fields)


DENSE: Final = shape(
    load_catalog().model("nano-1m"), layers=4, hidden=64, heads=8, kv_heads=4, head_dim=8,
    ffn=128, vocab=128, tied_embeddings=False, qk_norm=True,
)  # fmt: skip
"""RoPE, RMSNorm, SwiGLU, grouped queries with norms."""
MOE: Final = shape(DENSE, experts=8, topk=2, moe_ffn=32, shared_ffn=64, first_dense=1)
"""The same with 8 experts, 2 for a token, and a shared one, in all layers but the first."""
LATENT: Final = MLA(q_lora=0, kv_lora=16, qk_nope=8, qk_rope=8, v=8)
_OLD: Final = {"norm": "layer", "gated_mlp": False, "bias": True, "qk_norm": False,
               "tied_embeddings": True, "kv_heads": 8}  # fmt: skip
VARIANTS: Final = {
    "MLA": shape(DENSE, mla=LATENT, kv_heads=8, qk_norm=False),
    "MLA with low-rank queries, experts": shape(
        MOE, mla=dataclasses.replace(LATENT, q_lora=24), kv_heads=8, qk_norm=False
    ),
    "ALiBi, LayerNorm, GELU, biases, tied": shape(DENSE, position="alibi", **_OLD),
    "learned positions, tied": shape(DENSE, position="learned", max_positions=32, **_OLD),
    "parallel block": shape(DENSE, parallel_block=True),
    "sliding window": shape(DENSE, window=8, window_every=2),
    "uneven shards": shape(DENSE, vocab=122, ffn=90, hidden=56, heads=4, kv_heads=2, head_dim=14),
    "experts with biases, GELU": shape(MOE, bias=True, gated_mlp=False),
}
"""Dense has queries with norms. What divides nothing evenly is cut unevenly by FSDP and TP."""
SEEDS: Final[Mapping[tuple[str, int], int]] = {
    ("experts", 4): 16, ("experts", 8): 8, ("experts, 2 further predictions", 4): 6,
    ("experts with biases, GELU", 4): 6,
}  # fmt: skip
"""Of the weights, by model and layers; else 0. With them no token comes nearer than CLOSEST to
another expert, where the order of a sum would decide and a whole gradient change."""
CLOSEST: Final = 5e-6
"""In scores, which run from 0 to 1; a layout changes them by less than 1e-6."""


def pipelines() -> Iterator[tuple[str, Split]]:
    """Yield every schedule at 2 and 4 ranks."""
    for pp, size in ((2, 2), (4, 1)):
        for schedule, vpp in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("zb-v", 1)):
            yield (
                f"PP {pp}, {schedule}",
                Split(pp=pp, vpp=vpp, schedule=schedule, micro_batch=size),
            )


def fully_sharded() -> Iterator[tuple[str, Split]]:
    """Yield FSDP2 at 2, 4 and 8 ranks with every ZeRO stage."""
    for ranks in (2, 4, 8):
        for zero in (1, 2, 3):
            yield (
                f"FSDP {ranks}, ZeRO-{zero}",
                Split(dp_shard=ranks, micro_batch=8 // ranks, zero=zero),
            )


SP: Final[dict[str, Any]] = {"sequence_parallel": True}
ZB: Final[dict[str, Any]] = {"schedule": "zb-v", "zero": 2}
VPP: Final[dict[str, Any]] = {"schedule": "interleaved", "vpp": 2}
LAYOUTS: Final[dict[str, Split]] = {
    **dict(fully_sharded()),
    "replicas 2": Split(dp_replicate=2, micro_batch=4),
    "HSDP 2×2": Split(dp_replicate=2, dp_shard=2, micro_batch=2),
    "HSDP 2×2, ZeRO-1": Split(dp_replicate=2, dp_shard=2, micro_batch=2, zero=1),
    "TP 2": Split(tp=2, micro_batch=8),
    "TP 2 + SP": Split(tp=2, micro_batch=8, **SP),
    "TP 4": Split(tp=4, micro_batch=8),
    "TP 4 + SP": Split(tp=4, micro_batch=8, **SP),
    "CP 2": Split(cp=2, micro_batch=8),
    "CP 4": Split(cp=4, micro_batch=8),
    **dict(pipelines()),
    "FSDP 2 × TP 2": Split(dp_shard=2, tp=2, micro_batch=4),
    "FSDP 2 × TP 2 + SP": Split(dp_shard=2, tp=2, micro_batch=4, **SP),
    "HSDP 2×2 × TP 2 + SP": Split(dp_replicate=2, dp_shard=2, tp=2, micro_batch=4, **SP),
    "FSDP 2 × PP 2, 1f1b": Split(dp_shard=2, pp=2, micro_batch=2),
    "FSDP 2 × PP 2, 1f1b, ZeRO-1": Split(dp_shard=2, pp=2, micro_batch=2, zero=1),
    "FSDP 2 × PP 2, interleaved": Split(dp_shard=2, pp=2, micro_batch=2, **VPP),
    "FSDP 2 × PP 2, zb-v, ZeRO-2": Split(dp_shard=2, pp=2, micro_batch=2, **ZB),
    "replicas 2 × PP 2": Split(dp_replicate=2, pp=2, micro_batch=2),
    "PP 2 × TP 2 + SP": Split(pp=2, tp=2, micro_batch=4, **SP),
    "PP 2 × TP 2 + SP, interleaved": Split(pp=2, tp=2, micro_batch=4, **VPP, **SP),
    "PP 2 × TP 2 + SP, zb-v": Split(pp=2, tp=2, micro_batch=4, **ZB, **SP),
    "FSDP 2 × TP 2 × PP 2": Split(dp_shard=2, tp=2, pp=2, micro_batch=4, **SP),
    "FSDP 2 × TP 2 × PP 2, zb-v, ZeRO-2": Split(dp_shard=2, tp=2, pp=2, micro_batch=2, **ZB, **SP),
    "FSDP 2 × CP 2": Split(dp_shard=2, cp=2, micro_batch=4),
    "TP 2 × CP 2": Split(tp=2, cp=2, micro_batch=8, **SP),
    "CP 2 × PP 2": Split(cp=2, pp=2, micro_batch=4),
}
EXPERT_LAYOUTS: Final[dict[str, Split]] = {
    "EP 2": Split(dp_shard=2, ep=2, micro_batch=4),
    "EP 4": Split(dp_shard=4, ep=4, micro_batch=2),
    "FSDP 4 × EP 2": Split(dp_shard=4, ep=2, micro_batch=2),
    "FSDP 8 × EP 4": Split(dp_shard=8, ep=4, micro_batch=1),
    "HSDP 2×2 × EP 2": Split(dp_replicate=2, dp_shard=2, ep=2, micro_batch=2),
    "PP 2 × EP 2": Split(dp_shard=2, ep=2, pp=2, micro_batch=2),
    "PP 2 × EP 2, zb-v, ZeRO-2": Split(dp_shard=2, ep=2, pp=2, micro_batch=2, **ZB),
    "TP 2 × EP 2": Split(tp=2, ep=2, micro_batch=4, **SP),
    "TP 4 × EP 4": Split(tp=4, ep=4, micro_batch=8, **SP),
    "FSDP 2 × TP 2 × EP 4": Split(dp_shard=2, tp=2, ep=4, micro_batch=4, **SP),
    "CP 2 × EP 2": Split(cp=2, ep=2, micro_batch=8),
}
"""EP counts among the ranks of FSDP, CP and TP: it takes none of its own."""
FOR_VARIANTS: Final = ("FSDP 2, ZeRO-3", "TP 2 + SP", "CP 2", "PP 2, 1f1b", "FSDP 2 × TP 2 + SP")
RECOMPUTED: Final = (
    "FSDP 2, ZeRO-3", "TP 2 + SP", "CP 2", "PP 2, 1f1b", "FSDP 2 × TP 2 × PP 2", "EP 2",
    "FSDP 4 × EP 2", "TP 2 × EP 2",
)  # fmt: skip
BF16: Final = 5e-2
FP8: Final = 0.5
NARROW: Final = ("FSDP 2, ZeRO-3", "TP 2 + SP", "CP 2", "PP 2, 1f1b", "EP 2")


def case(name: str, model: str, spec: ModelSpec, split: Split, **more: Any) -> Case:
    """Return a case, its model deep enough for the stages of its pipeline."""
    deep = shape(spec, layers=max(spec.layers, split.stages))
    within = more.pop("within", 1e-4)
    kinds = (model, deep.layers), (model.partition(",")[0], deep.layers)
    options = BuildOptions(seed=next((SEEDS[k] for k in kinds if k in SEEDS), 0), **more)
    return Case(name=name, model=model, spec=deep, split=split, options=options, within=within)


def axes() -> Iterator[Case]:
    """Yield every axis and composition, dense and with experts."""
    for name, split in LAYOUTS.items():
        yield case(name, "dense", DENSE, split)
    for name, split in (LAYOUTS | EXPERT_LAYOUTS).items():
        if split.tp == 1 or split.sequence_parallel:
            yield case(name, "experts", MOE, split)


def variants() -> Iterator[Case]:
    """Yield kinds of models under each axis."""
    for model, spec in VARIANTS.items():
        for name in FOR_VARIANTS:
            yield case(name, model, spec, LAYOUTS[name])
    tied = VARIANTS["learned positions, tied"]
    for name in ("PP 2, interleaved", "PP 4, 1f1b", "FSDP 2 × TP 2 × PP 2"):
        yield case(name, "learned positions, tied", tied, LAYOUTS[name])
    for heads, ranks in ((2, 4), (1, 2)):
        few = shape(DENSE, kv_heads=heads)
        yield case(f"CP {ranks}", f"key-value heads: {heads}", few, LAYOUTS[f"CP {ranks}"])
    for name in ("FSDP 2, ZeRO-3", "HSDP 2×2"):
        yield case(name, "experts, 5 of them", shape(MOE, experts=5), LAYOUTS[name])
    for model, spec in (("dense", DENSE), ("experts", MOE)):
        more = shape(spec, mtp_layers=2)
        name = "EP 2" if spec.experts else "FSDP 2, ZeRO-3"
        layouts = LAYOUTS | EXPERT_LAYOUTS
        yield case(name, f"{model}, 2 further predictions", more, layouts[name], mtp=True)


def recomputed() -> Iterator[Case]:
    """Yield every mode of recompute."""
    for mode in ("full", "selective", "light"):
        for name in RECOMPUTED:
            split = (LAYOUTS | EXPERT_LAYOUTS)[name]
            model, spec = ("experts", MOE) if split.ep > 1 else ("dense", DENSE)
            again = dataclasses.replace(split, recompute=mode)
            yield case(name, f"{model}, recompute {mode}", spec, again)
    once = dataclasses.replace(LAYOUTS["PP 2, 1f1b"], recompute="full", recompute_layers=1)
    yield case("PP 2, 1f1b", "dense, recompute of 1 layer", DENSE, once)


def narrow() -> Iterator[Case]:
    """Yield bf16 and fp8, each against one rank in the same format."""
    for precision, within in (("bf16", BF16), ("fp8", FP8)):
        for name in NARROW:
            split = (LAYOUTS | EXPERT_LAYOUTS)[name]
            model, spec = ("experts", MOE) if split.ep > 1 else ("dense", DENSE)
            cast = dataclasses.replace(split, precision=precision)
            yield case(name, f"{model}, {precision}", spec, cast, within=within)


def compiled() -> Iterator[Case]:
    """Yield torch.compile on one process, two and four."""
    yield case("one process", "dense, compiled", DENSE, Split(micro_batch=8), compiled=True)
    beside = ("FSDP 2 × TP 2 + SP", "PP 2 × TP 2 + SP", "TP 2 × CP 2")
    for name in ("FSDP 2, ZeRO-3", "TP 2", "TP 2 + SP", *beside):
        yield case(name, "dense, compiled", DENSE, LAYOUTS[name], compiled=True)
    both = LAYOUTS["TP 2 + SP"]
    yield case("TP 2 + SP", "experts, compiled", MOE, both, compiled=True)
    light = dataclasses.replace(both, recompute="light")
    yield case("TP 2 + SP", "dense, recompute light, compiled", DENSE, light, compiled=True)
    cast = dataclasses.replace(both, precision="bf16")
    yield case("TP 2 + SP", "dense, bf16, compiled", DENSE, cast, compiled=True, within=BF16)


def everything() -> list[Case]:
    """Return all cases that run."""
    return [*axes(), *variants(), *recomputed(), *narrow(), *compiled()]


QUICK: Final = (
    ("FSDP 2, ZeRO-3", "dense"), ("FSDP 2, ZeRO-1", "experts"), ("replicas 2", "dense"),
    ("TP 2", "dense"), ("TP 2 + SP", "experts"), ("CP 2", "dense"), ("EP 2", "experts"),
    ("PP 2, gpipe", "dense"), ("PP 2, 1f1b", "dense"),
    ("PP 2, interleaved", "dense"), ("PP 2, zb-v", "dense"),
    ("PP 2, 1f1b", "learned positions, tied"), ("EP 2", "experts, recompute selective"),
    ("HSDP 2×2", "dense"), ("FSDP 2 × TP 2 + SP", "uneven shards"),
    ("FSDP 2 × PP 2, zb-v, ZeRO-2", "dense"), ("PP 2 × EP 2", "experts"),
    ("PP 2 × TP 2 + SP", "dense"), ("FSDP 2 × CP 2", "dense"),
)  # fmt: skip
"""Every axis and schedule once, by layout and model: what runs with each change."""


def quick(ranks: int) -> list[Case]:
    """Return the quick cases of a world size."""
    known = {(case.name, case.model): case for case in everything()}
    return [known[key] for key in QUICK if known[key].split.ranks == ranks]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A layout that crore refuses, and what happens where it is run nonetheless."""

    case: Case
    reason: str
    """In crore's refusal."""
    torch_says: str = ""
    """In torch's error, or in that of `make_step`; empty where none is sure to come."""


def _changed(layout: str, spec: ModelSpec = DENSE, *, ring: bool = False, compile_it: bool = False,
             **fields: Any) -> Case:  # fmt: skip
    split = dataclasses.replace((LAYOUTS | EXPERT_LAYOUTS)[layout], **fields)
    return case(layout, "refused", spec, split, ring=ring, compiled=compile_it)


REFUSED: Final = {
    "zb-v, ZeRO-3, FSDP": Refused(
        case=_changed("FSDP 2 × PP 2, zb-v, ZeRO-2", zero=3),
        reason="use zero 2", torch_says="a weight got no gradient",
    ),
    "zb-v, ZeRO-3, bf16": Refused(
        case=_changed("PP 2, zb-v", precision="bf16"),
        reason="use zero 2", torch_says="a weight got no gradient",
    ),
    "zb-v, selective recompute": Refused(
        case=_changed("PP 2, zb-v", recompute="selective"),
        reason="recompute none",
        torch_says="RuntimeError: Trying to backward an extra time",
    ),
    "zb-v, full recompute": Refused(
        case=_changed("PP 2, zb-v", recompute="full"),
        reason="would recompute as often",
    ),
    "zb-v, compiled": Refused(
        case=_changed("PP 2, zb-v", compile_it=True),
        reason="leave --compile out",
    ),
    "TP, full recompute, compiled": Refused(
        case=_changed("TP 2 + SP", recompute="full", compile_it=True),
        reason="recompute light",
        torch_says="AssertionError: expected all tensors_saved_with_vc_check to be Tensors",
    ),
    "EP, compiled": Refused(
        case=_changed("EP 2", MOE, compile_it=True),
        reason="cut by ep",
        torch_says=r"fake tensors: call_function crore.grouped_linear.default\(.*DTensor\(",
    ),
    "ring on a CPU": Refused(
        case=_changed("CP 2", ring=True),
        reason="leave --ring out",
        torch_says="NotImplementedError: Operator aten._scaled_dot_product_flash_attention_for_cpu",
    ),
    "fewer micro-batches than stages": Refused(
        case=_changed("PP 4, 1f1b", micro_batch=8),
        reason="2 micro-batches leave 4 stages idle",
        torch_says=r"ValueError: Number of microbatches \(2\) must be greater than or equal",
    ),
}  # fmt: skip
