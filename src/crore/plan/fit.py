"""What fits on the cards one has: inference, fine-tuning and training of one model, by memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from crore.catalog import Accelerator, Catalog, ModelSpec, load_catalog
from crore.catalog.load import shipped
from crore.cost import Shape, parameters, shape_of
from crore.cost.arrays import stack_columns
from crore.cost.finetune import LORA_RANK
from crore.cost.linears import adapter_parameters, linears
from crore.cost.serving import (
    DEVICE_CONTEXT_BYTES,
    FORMATS,
    HOST_PROCESS_BYTES,
    PROMPT_CHUNK,
    TORCH_PROCESS_BYTES,
    tensor_parallel,
)
from crore.errors import Infeasible, InputError, UnknownName
from crore.plan.fit_modes import ENGINES, LLAMA_CPP, Cards, Mode, cards_of, last_fit, modes_of
from crore.plan.fit_money import ADAPTER_WIDTH, DEFAULT_TOKENS, Tuning, tuning, tuning_record
from crore.plan.fit_offload import HOST_BYTES_PER_S, Offload, offload
from crore.plan.request import MEMORY_MARGIN
from crore.units import format_bytes, format_count

FIT_VERSION: Final = 1
"""Of crore.fit, the document of `crore fit`."""
DEFAULT_CONTEXT: Final = 4096
LONGEST: Final = 1 << 24
"""Tokens beyond which memory is said to set no limit (a state or a window needs no more)."""
LARGEST_BATCH: Final = 1 << 16
MOST_CARDS: Final = 1024
"""How many cards are tried when the ones given do not do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRequest:
    """The user's words."""

    model: str
    gpu: str
    gpus: int = 1
    engine: str = "transformers"
    """Of `crore.plan.fit_modes.ENGINES`."""
    context: int | None = None
    """Tokens per sequence; DEFAULT_CONTEXT or the model's learned positions when left open."""
    tokens: int | None = None
    """To train on; DEFAULT_TOKENS when left open."""
    catalog_file: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeFit:
    """One row of the answer; bytes are of one card."""

    mode: str
    bytes: float
    split_bytes: dict[str, float]
    fits: bool
    tight: bool
    """It fits, but with less to spare than predicted peaks usually miss by."""
    short_bytes: float
    largest_context: int | None
    """Tokens at batch 1; 0 when not even one fits, None when memory sets no limit."""
    positions_end_it: bool
    """The learned position table ends the context, not memory."""
    largest_batch: int | None
    """Sequences a card at the asked context length; None where nothing is trained."""
    tokens_per_s: float | None
    """At most, of one answer at the asked context, by memory bandwidth; None where it trains."""
    offload: Offload | None
    """The split with the host; None where the card holds all, or nothing can be split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What fits of one model; SI units."""

    request: FitRequest
    verdict: str
    model: ModelSpec
    accelerator: Accelerator
    gpus: int
    engine: str
    context: int
    modes: tuple[ModeFit, ...]
    tuning: tuple[Tuning, ...]
    """Of each mode that trains and fits, what it takes."""
    largest: dict[str, str | None]
    """Mode -> the released model of the catalogue with most parameters that fits."""
    derived: tuple[str, ...]

    def _repr_html_(self) -> str:
        from crore.plan.text.html import fit_html

        return fit_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from crore.plan.text.fit import render_fit

        return {"text/plain": render_fit(self), "text/html": self._repr_html_()}


def make_fit(request: FitRequest) -> Fit:
    """Return what fits.

    Raises UnknownName and InputError for bad input; Infeasible when no mode fits, with what would.
    """
    catalog = load_catalog(request.catalog_file)
    model = catalog.model(request.model)
    if request.engine not in ENGINES:
        raise UnknownName("engine", request.engine, ENGINES)
    cards = cards_of(catalog.accelerator(request.gpu), request.gpus, request.engine)
    shape = shape_of(model)
    context, derived = _context(request, model)
    modes = modes_of(cards.half, request.engine)
    rows = tuple(_row(cards, mode, model, shape, context) for mode in modes)
    largest = _largest_models(catalog, cards, modes, context)
    if not any(row.fits for row in rows):
        raise Infeasible(_miss(request, cards, modes, rows, shape, context, largest))
    return Fit(
        request=request, verdict=_verdict(rows),
        model=model, accelerator=cards.accelerator, gpus=request.gpus, engine=request.engine,
        context=context,
        modes=rows, tuning=_tuning(request, cards, modes, rows, shape, context), largest=largest,
        derived=(*derived, *_assumed(cards, shape, rows)),
    )  # fmt: skip


def _tuning(
    request: FitRequest, cards: Cards, modes: tuple[Mode, ...], rows: tuple[ModeFit, ...],
    shape: Shape, context: int,
) -> tuple[Tuning, ...]:  # fmt: skip
    tokens = DEFAULT_TOKENS if request.tokens is None else request.tokens
    found = (
        tuning(cards, mode, shape, context=context, batch=row.largest_batch or 0, tokens=tokens)
        for mode, row in zip(modes, rows, strict=True)
        if mode.trains
    )
    return tuple(one for one in found if one is not None)


def _verdict(rows: tuple[ModeFit, ...]) -> str:
    does, does_not = ([row.mode for row in rows if row.fits is yes] for yes in (True, False))
    but = f"; not for {', '.join(does_not)}" if does_not else ""
    return f"FITS for {', '.join(does)}{but}"


def _context(request: FitRequest, model: ModelSpec) -> tuple[int, list[str]]:
    """Return the tokens per sequence: as given, or a default within the learned positions."""
    positions = model.max_positions
    if request.context is None:
        context = min(DEFAULT_CONTEXT, positions or DEFAULT_CONTEXT)
        return context, [f"context {context:,} tokens (default)"]
    if 0 < positions < request.context:
        raise InputError(
            f"--context {request.context:,} is beyond the {positions:,} learned positions of "
            f"{model.name}: give at most {positions}"
        )
    if request.context > LONGEST:
        raise InputError(f"--context must be at most {LONGEST:,} tokens, not {request.context:.3g}")
    return request.context, []


def _row(cards: Cards, mode: Mode, model: ModelSpec, shape: Shape, context: int) -> ModeFit:
    parts = {name: float(part) for name, part in cards.need(mode, shape, float(context)).items()}
    need, capacity = sum(parts.values()), cards.accelerator.memory_bytes
    limit = model.max_positions or LONGEST
    longest = last_fit(lambda tokens: cards.fits(mode, shape, tokens), limit)
    at_limit, fits = longest == limit, need <= capacity
    return ModeFit(
        mode=mode.name,
        bytes=need,
        split_bytes=parts,
        fits=fits,
        tight=fits and capacity < need * (1 + MEMORY_MARGIN),
        short_bytes=max(0.0, need - capacity),
        largest_context=None if at_limit and not model.max_positions else longest,
        positions_end_it=at_limit and model.max_positions > 0,
        largest_batch=last_fit(
            lambda batch: cards.fits(mode, shape, float(context), batch), LARGEST_BATCH
        )
        if mode.trains
        else None,
        tokens_per_s=cards.speed(mode, shape, float(context)),
        offload=None if fits else offload(cards, mode, shape, float(context)),
    )


def _released(catalog: Catalog) -> list[str]:
    """Return models one can have: those with a repository's name, and the user's own rows."""
    known = set(shipped("models").keys())
    return [
        name
        for name in catalog.models()
        if name not in known or any("/" in alias for alias in catalog.aliases("models", name))
    ]


def _largest_models(
    catalog: Catalog, cards: Cards, modes: tuple[Mode, ...], context: int
) -> dict[str, str | None]:
    specs = [catalog.model(name) for name in _released(catalog)]
    shapes = stack_columns([shape_of(spec) for spec in specs])
    size = np.asarray(parameters(shapes))
    reach = np.array([spec.max_positions or context for spec in specs]) >= context
    found: dict[str, str | None] = {}
    for mode in modes:
        fitting = cards.fits(mode, shapes, float(context)) & reach
        best = int(np.argmax(np.where(fitting, size, 0.0)))
        found[mode.name] = specs[best].name if fitting.any() else None
    return found


def _assumed(cards: Cards, shape: Shape, rows: tuple[ModeFit, ...]) -> list[str]:
    adapters = format_count(float(adapter_parameters(linears(shape), LORA_RANK)))
    return [
        *_several(shape, float(cards.gpus)),
        *(f"{name}: {FORMATS[name].source}" for name in (*ENGINES[cards.engine][1:], "nf4")),
        "keys and values stay in 16 bits, and beside int8, int4 and nf4 tables and norms too",
        _speeds(cards),
        *_offloaded(cards, rows),
        f"prompts are read {PROMPT_CHUNK:,} tokens at a time",
        (
            f"adapters of rank {LORA_RANK} on all linear layers: {adapters} parameters in 16 bits, "
            "AdamW moments in 32"
        ),
        "training keeps weights, gradients and AdamW moments in 32 bits and recomputes every layer",
        _process(cards),
        *_priced(cards),
        "context lengths are what memory allows; the model may have been trained for less",
    ]


def _priced(cards: Cards) -> list[str]:
    """Say what time and money of tuning rest on."""
    if cards.accelerator.cpu:
        return []
    return [
        (
            "tuning's time: a step of training less a frozen base's gradients; of adapters "
            f"{ADAPTER_WIDTH:.0%} more of range (judgement)"
        ),
        "its money, power and carbon: ranges of the catalogue (-o FILE, then crore explain FILE)",
    ]


def _several(shape: Shape, gpus: float) -> list[str]:
    split = int(tensor_parallel(shape, gpus))
    several = [
        f"inference split over {split:,} of {gpus:,.0f} cards (tensor parallel; divides the heads)",
        f"training sharded over {gpus:,.0f} cards as ZeRO-3, batch 1 each; NCCL buffers left out",
    ]
    return several if gpus > 1 else []


def _speeds(cards: Cards) -> str:
    if rates := cards.read_rates():
        read = ", ".join(f"{name} {rate / 1e9:.3g} GB/s" for name, rate in rates.items())
        return f"tokens/s: weights and cache read once per token, as measured here: {read}"
    return "tokens/s are a ceiling: weights and cache read once per token at the memory's bandwidth"


def _offloaded(cards: Cards, rows: tuple[ModeFit, ...]) -> list[str]:
    if all(row.offload is None for row in rows):
        return []
    host = f"the host computes its layers at {HOST_BYTES_PER_S / 1e9:.3g} GB/s (DDR4-3200, peak)"
    bus = (
        "the host's layers are sent to the card for each token, "
        f"{cards.accelerator.host_bytes_per_s / 1e9:.3g} GB/s"
    )
    return [host if cards.engine == LLAMA_CPP else bus]


def _process(cards: Cards) -> str:
    if cards.accelerator.cpu:
        own = HOST_PROCESS_BYTES if cards.engine == LLAMA_CPP else TORCH_PROCESS_BYTES
        return f"{format_bytes(own)} for the process that serves"
    return (
        f"{format_bytes(DEVICE_CONTEXT_BYTES)} for the CUDA context (estimate); a desktop on "
        "the same card takes more"
    )


def _miss(
    request: FitRequest, cards: Cards, modes: tuple[Mode, ...], rows: tuple[ModeFit, ...],
    shape: Shape, context: int, largest: dict[str, str | None],
) -> str:  # fmt: skip
    """Say what comes nearest, how many such cards hold it, and the largest model that fits."""
    row = min(rows, key=lambda row: row.bytes)
    mode = modes[rows.index(row)]
    tried = replace(cards, gpus=np.arange(1.0, MOST_CARDS + 1))
    enough = np.flatnonzero(tried.fits(mode, shape, float(context)))
    holds = f"{enough[0] + 1:,}" if len(enough) else f"not even {MOST_CARDS:,}"
    best, shared = largest[row.mode], row.offload
    instead = f"; the largest that fits is {best}" if best else ""
    if shared is not None:
        layers = shared.card_layers + shared.host_layers
        instead = (
            f"; or {shared.card_layers} of {layers} layers, {format_bytes(shared.host_bytes)} on "
            f"its host, ≤ {shared.tokens_per_s:.3g} tokens/s"
        )
    return (
        f"does not fit: {request.model[:40]} on {request.gpus:,} x {cards.accelerator.name}, "
        f"{context:,} tokens: {row.mode} is smallest and needs {format_bytes(row.bytes)} a card, "
        f"{format_bytes(row.short_bytes)} short; {holds} such cards hold it{instead}"
    )


def fit_record(fit: Fit) -> dict[str, Any]:
    """Return the answer as the JSON document's body."""
    return {
        "verdict": fit.verdict,
        "model": fit.model.name,
        "gpu": fit.accelerator.name,
        "gpus": fit.gpus,
        "engine": fit.engine,
        "context": fit.context,
        "memory_capacity_bytes": fit.accelerator.memory_bytes,
        "modes": [_mode_record(row) for row in fit.modes],
        "tuning": [tuning_record(one) for one in fit.tuning],
        "largest": fit.largest,
        "sources": {
            "model": fit.model.provenance.source,
            "gpu": fit.accelerator.provenance.source,
            **{name: FORMATS[name].source for name in FORMATS},
        },
        "derived": list(fit.derived),
        "request": {**asdict(fit.request), "catalog_file": _text(fit.request.catalog_file)},
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _mode_record(row: ModeFit) -> dict[str, Any]:
    split = {name.replace(" ", "_"): part for name, part in row.split_bytes.items()}
    record = {**asdict(row), "split_bytes": split}
    return {"mode": row.mode, "memory_bytes_per_gpu": record.pop("bytes"), **record}
