"""The table of explanations of a fit, first part: what each way to use a model needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from crore.cost.finetune import adapter_parts, training_parts
from crore.cost.linears import adapter_parameters
from crore.cost.memory import memory
from crore.cost.serving import (
    FORMATS,
    answer_bytes,
    cache_bytes,
    expanded_bytes,
    prompt_bytes,
    serving_parts,
    weight_bytes,
)
from crore.plan.explain.entry import CLOSED, ESTIMATE, Entry, Function
from crore.plan.explain.step import SHAPE
from crore.plan.fit import Fit, ModeFit
from crore.plan.fit_modes import LLAMA_CPP, Cards, last_fit
from crore.plan.fit_offload import offload

GROUP: Final = "memory"
SERVING: Final = "crore.cost.serving."
SERVED: Final[Mapping[str, tuple[Function, ...]]] = {
    "weights": (weight_bytes,), "cache": (cache_bytes,), "working": (prompt_bytes, expanded_bytes),
}  # fmt: skip
ADAPTED: Final[Mapping[str, tuple[Function, ...]]] = {
    "weights": (weight_bytes,), "adapters": (adapter_parameters, adapter_parts),
    "working": (memory, expanded_bytes), "gathered layers": (adapter_parts,),
}  # fmt: skip
"""Part of the memory -> what computes it; other parts are those of a training step."""
OFFLOADED: Final = {
    "card_layers": ("layers", "on the card"), "host_layers": ("layers", "on the host"),
    "card_bytes": ("bytes", "needed on the card"), "host_bytes": ("bytes", "needed on the host"),
    "tokens_per_s": ("tokens/s", "at most, of one answer, both memories at work"),
}  # fmt: skip


def slug(mode: str) -> str:
    """Return a mode as its keys have it: `QLoRA nf4` is `QLoRA_nf4`."""
    return mode.replace(" ", "_")


def shape_words(fit: Fit) -> tuple[str, ...]:
    """Return the words for the model's shape, of what it has."""
    return tuple(f"model:{name}" for name in SHAPE if getattr(fit.model, name))


def mode_entries(fit: Fit) -> Iterator[Entry]:
    """Yield a line for every number of every mode."""
    for row in fit.modes:
        key = f"modes.{slug(row.mode)}"
        yield from _needs(fit, row, key)
        yield from _reaches(fit, row, key)
        if row.offload is not None:
            yield from _shared(fit, key)


def _needs(fit: Fit, row: ModeFit, key: str) -> Iterator[Entry]:
    yield Entry(
        key=f"{key}.memory_bytes_per_gpu", group=GROUP, unit="bytes",
        about=f"needed on one GPU for {row.mode}", functions=(Cards.need,),
        inputs=("context", "gpus", *shape_words(fit)), parts=f"{key}.split_bytes.",
    )  # fmt: skip
    for part in row.split_bytes:
        yield _part(fit, row, part, f"{key}.split_bytes.{slug(part)}")
    yield Entry(
        key=f"{key}.short_bytes", group=GROUP, unit="bytes", about="missing on one GPU",
        formula=f"max({key}.memory_bytes_per_gpu - memory_capacity_bytes, 0)",
        inputs=(f"{key}.memory_bytes_per_gpu", "memory_capacity_bytes"), listed=False,
    )  # fmt: skip


def _part(fit: Fit, row: ModeFit, part: str, key: str) -> Entry:
    inputs: tuple[str, ...] = ("context", "gpus", *shape_words(fit))
    note = ""
    if part == "context":
        inputs = (f"const:{SERVING}{_process(fit)}",)
    elif part == "fragmentation":
        inputs = ("const:crore.cost.memory.FRAGMENTATION", *inputs)
    elif part == "weights":
        stored = row.mode.rpartition(" ")[2]
        note = FORMATS[stored].source if stored in FORMATS else ""
    elif part == "adapters":
        inputs = (*inputs, "const:crore.cost.finetune.LORA_RANK",
                  "const:crore.cost.finetune.ADAPTER_BYTES")  # fmt: skip
    return Entry(
        key=key, group=GROUP, unit="bytes", about=f"{part} of one GPU", listed=False, note=note,
        functions=_computed(row, part), inputs=inputs,
        evidence="an estimate" if part in ("context", "fragmentation") else CLOSED,
    )  # fmt: skip


def _computed(row: ModeFit, part: str) -> tuple[Function, ...]:
    if row.mode.startswith("inference"):
        return SERVED.get(part, (serving_parts,))
    if "adapters" in row.split_bytes:
        return ADAPTED.get(part, (memory, adapter_parts))
    return (memory, training_parts)


def _process(fit: Fit) -> str:
    """Return the constant of what a process takes beside the model."""
    if not fit.accelerator.cpu:
        return "DEVICE_CONTEXT_BYTES"
    return "HOST_PROCESS_BYTES" if fit.engine == LLAMA_CPP else "TORCH_PROCESS_BYTES"


def _reaches(fit: Fit, row: ModeFit, key: str) -> Iterator[Entry]:
    shape = shape_words(fit)
    if row.largest_context is not None:
        yield Entry(
            key=f"{key}.largest_context", group=GROUP, unit="tokens", listed=row.fits,
            about="longest sequence at batch 1", functions=(last_fit, Cards.fits, Cards.need),
            inputs=("memory_capacity_bytes", "gpus", *shape),
        )  # fmt: skip
    if row.largest_batch is not None:
        yield Entry(
            key=f"{key}.largest_batch", group=GROUP, unit="sequences", listed=row.fits,
            about="on one GPU", functions=(last_fit, Cards.fits, Cards.need),
            inputs=("memory_capacity_bytes", "context", "gpus", *shape),
        )  # fmt: skip
    if row.tokens_per_s is not None:
        yield Entry(
            key=f"{key}.tokens_per_s", group="throughput", unit="tokens/s", listed=row.fits,
            about="at most, of one answer, by the memory's bandwidth", evidence="a ceiling",
            functions=(Cards.speed, answer_bytes), note=_read(fit),
            inputs=("context", "gpus", "gpu:memory_bytes_per_s", *shape),
        )  # fmt: skip


def _read(fit: Fit) -> str:
    return next((line for line in fit.derived if line.startswith("tokens/s")), "")


def _shared(fit: Fit, key: str) -> Iterator[Entry]:
    host = "const:crore.plan.fit_offload.HOST_BYTES_PER_S"
    bus = host if fit.engine == LLAMA_CPP else "gpu:host_bytes_per_s"
    for name, (unit, about) in OFFLOADED.items():
        rates = ("gpu:memory_bytes_per_s", bus) if name == "tokens_per_s" else ()
        yield Entry(
            key=f"{key}.offload.{name}", group=GROUP, unit=unit, about=about, listed=False,
            evidence=ESTIMATE if rates else CLOSED, functions=(offload,),
            inputs=("context", "memory_capacity_bytes", *rates, *shape_words(fit)),
        )  # fmt: skip
