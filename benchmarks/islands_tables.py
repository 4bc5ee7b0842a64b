"""What the cells of `benchmarks/islands.py` say: tables, a figure, and rows for the catalogue.

    python -m benchmarks.islands_tables CELLS.jsonl TABLES.md FIGURE.svg [CATALOGUE.toml]

φ of a cell is how many tokens data parallel training needs for the loss the cell reached, over the
tokens the cell took: from the losses of data parallel runs of several lengths, each with its whole
schedule, of the same seed. Between two lengths the loss is a line in the logarithm of the tokens.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.islands import (
    BATCH,
    INTERVALS,
    ISLANDS,
    OUTER_LR,
    OUTER_MOMENTUM,
    SEEDS,
    SEQ_LEN,
    SIZES,
    STREAMED,
    SWEEP_SEED,
    TUNED,
    VARIANT_SEEDS,
    WHEN,
    Cell,
    cells_of,
    variants,
)

from crore.cost import parameters
from crore.cost.shape import shape_of
from crore.plan.text.scale import Scale
from crore.plan.text.svg import BLUE, GREEN, MUTED, ORANGE, Svg

Found = Mapping[Cell, Mapping[str, Any]]
WIDTH, HEIGHT, EDGE, NAMES = 440, 300, 64, 44
NEAR: Final = 13.0
"""Labels nearer to each other than this would overlap."""
COLOURS: Final = {1: MUTED, 2: BLUE, 4: ORANGE, 8: GREEN}
SOURCE: Final = "crore, benchmarks/islands_epyc-2core_2026-11-26.md"
DATE: Final = "2026-11-27"


class Spread(NamedTuple):
    """A number over the seeds."""

    low: float
    middle: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """Return the least, the mean and the largest."""
    return Spread(min(numbers), statistics.fmean(numbers), max(numbers))


def budgets(found: Found, size: str, seed: int) -> list[tuple[float, float]]:
    """Return (ln tokens, loss) of a seed's data parallel runs, shortest first."""
    return sorted(
        (math.log(cell.steps * BATCH * SEQ_LEN), row["loss"])
        for cell, row in found.items()
        if (cell.size, cell.seed, cell.interval) == (size, seed, 0)
    )


def tokens_for(loss: float, curve: Sequence[tuple[float, float]]) -> float:
    """Return the tokens at which a falling curve of (ln tokens, loss) reaches a loss.

    Beyond its ends the outermost lines go on.
    """
    pairs = list(itertools.pairwise(curve))
    (x0, y0), (x1, y1) = next((pair for pair in pairs if loss >= pair[1][1]), pairs[-1])
    return math.exp(x0 + (loss - y0) * (x1 - x0) / (y1 - y0))


def of_seeds(
    found: Found, make: Callable[[int], Cell], number: Callable[[Cell], float]
) -> Spread | None:
    """Return a number of a setting over the seeds, None until all have run."""
    cells = [make(seed) for seed in SEEDS]
    return spread([number(cell) for cell in cells]) if all(c in found for c in cells) else None


def plain(size: str, islands: int, interval: int) -> Callable[[int], Cell]:
    """Return how a seed makes a cell of the grid."""
    how = SIZES[size]
    return lambda seed: Cell(
        size=size, seed=seed, steps=how.steps, lr=how.lr, islands=islands, interval=interval
    )


def over_data_parallel(found: Found, cell: Cell) -> float:
    """Return a cell's loss over its seed's data parallel one, less 1."""
    reference = plain(cell.size, 1, 0)(cell.seed)
    return float(found[cell]["loss"] / found[reference]["loss"] - 1)


def efficiency(found: Found, cell: Cell) -> float:
    """Return φ of a cell."""
    needed = tokens_for(found[cell]["loss"], budgets(found, cell.size, cell.seed))
    return needed / (cell.steps * BATCH * SEQ_LEN)


def finished(found: Found) -> list[str]:
    """Return the sizes whose data parallel runs of every length and seed are there."""
    curves = {name: [len(budgets(found, name, seed)) for seed in SEEDS] for name in SIZES}
    return [name for name, lengths in curves.items() if min(lengths) > 2]


def size_table(found: Found, name: str) -> Iterator[str]:
    """Yield a size's losses and φ by islands and interval."""
    model = SIZES[name]
    tokens, held = model.steps * BATCH * SEQ_LEN, int(parameters(shape_of(model.spec)))
    alone = of_seeds(found, plain(name, 1, 0), lambda cell: float(found[cell]["loss"]))
    assert alone is not None
    yield f"## {held:,} parameters, {tokens / 1e6:.2f}M tokens ({tokens / held:.1f} each)"
    yield ""
    yield (
        f"{model.layers} layers of {model.hidden}; data parallel reaches {alone.middle:.4f} nats a "
        f"token ({alone.low:.4f} to {alone.high:.4f}) in {model.steps:,} steps at {model.lr:g}."
    )
    yield ""
    yield "| islands | " + " | ".join(f"H = {interval}" for interval in INTERVALS) + " |"
    yield "| --- " * (len(INTERVALS) + 1) + "|"
    for islands in ISLANDS:
        row = [_entry(found, plain(name, islands, interval)) for interval in INTERVALS]
        yield f"| {islands} | " + " | ".join(row) + " |"
    yield ""


def _entry(found: Found, make: Callable[[int], Cell]) -> str:
    loss = of_seeds(found, make, lambda cell: over_data_parallel(found, cell))
    phi = of_seeds(found, make, lambda cell: efficiency(found, cell))
    if loss is None or phi is None:
        return "–"
    return f"{100 * loss.middle:+.2f} %, φ {phi.middle:.2f} ({phi.low:.2f} to {phi.high:.2f})"


def variant_table(found: Found) -> Iterator[str]:
    """Yield how far fewer bits and streaming move the loss, each run against its seed's."""
    yield (
        "| variant | islands | runs | loss over 32 bits, not streamed: mean ± standard error "
        "| furthest run | over 32 bits, streamed | furthest run |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    groups: dict[tuple[bool, int, int], list[Cell]] = {}
    for cell in (cell for seeds in VARIANT_SEEDS for cell in variants(seeds)):
        groups.setdefault((cell.fragments > 1, cell.bits, cell.islands), []).append(cell)
    for (streamed, bits, islands), cells in groups.items():
        shapes: list[Mapping[str, int]] = [{}, STREAMED] if streamed and bits < 32 else [{}]
        there = [c for c in cells if c in found and all(_like(c, s) in found for s in shapes)]
        if (bits == 32 and not streamed) or len(there) < len(SEEDS):
            continue
        against = [
            [found[cell]["loss"] / found[_like(cell, shape)]["loss"] - 1 for cell in there]
            for shape in shapes
        ]
        numbers = [words for each in against for words in _mean_and_furthest(each)]
        numbers += [""] * (4 - len(numbers))
        what = f"{'streamed, ' if streamed else ''}{bits} bits"
        yield f"| {what} | {islands} | {len(there)} | " + " | ".join(numbers) + " |"


def _like(cell: Cell, shape: Mapping[str, int]) -> Cell:
    """Return the cell at 32 bits, streamed or not."""
    return Cell(
        size=cell.size, seed=cell.seed, steps=cell.steps, lr=cell.lr, islands=cell.islands,
        interval=cell.interval, **shape,
    )  # fmt: skip


def _mean_and_furthest(numbers: Sequence[float]) -> tuple[str, str]:
    error = statistics.stdev(numbers) / math.sqrt(len(numbers))
    mean, furthest = statistics.fmean(numbers), max(numbers, key=abs)
    return f"{100 * mean:+.2f} ± {100 * error:.2f} %", f"{100 * furthest:+.2f} %"


def gate_line(found: Found) -> str:
    """Return what the gate would have done on these runs, in which nothing is wrong."""
    judged = [(cell, row) for cell, row in found.items() if "fenced" in row]
    least = min((row["cosine_ratio"] for cell, row in judged if cell.islands > 2), default=1.0)
    rounds = sum(row["rounds"] for _, row in judged)
    members = sum(row["rounds"] * cell.islands for cell, row in judged)
    return (
        f"{rounds:,} rounds of {len(judged)} runs: {sum(row['fenced'] for _, row in judged)} of "
        f"{members:,} outer gradients would have been left out; the largest norm was "
        f"{max(row['norm_ratio'] for _, row in judged):.2f} times the round's median, the least "
        "cosine to the others' mean "
        f"{least:.2f} times the median (4 and 8 islands)."
    )


def sweep_lines(found: Found) -> Iterator[str]:
    """Yield what the rates were chosen by."""
    for cell, row in found.items():
        if cell.seed == SWEEP_SEED:
            what = f"inner rate {cell.lr:g}, data parallel"
            if cell.interval:
                what = (
                    f"outer rate {cell.outer_lr:g}, momentum {cell.momentum:g}: {cell.islands} "
                    f"islands, H = {cell.interval}, inner rate {cell.lr:g}"
                )
            yield f"| {what} | {row['loss']:.4f} |"


def figure(found: Found, sizes: Sequence[str]) -> str:
    """Return loss over data parallel by interval, a panel for each size, as an SVG."""
    numbers = {
        (name, islands, interval): loss
        for name in sizes for islands in ISLANDS for interval in INTERVALS
        if (loss := of_seeds(found, plain(name, islands, interval),
                             lambda cell: over_data_parallel(found, cell))) is not None
    }  # fmt: skip
    ends = [end for loss in numbers.values() for end in (loss.low, loss.high)]
    upwards = Scale.over([0.0, 0.01, *ends], HEIGHT - EDGE, 66, log=False)
    title = "Loss over data parallel, by inner steps of a round"
    svg = Svg(WIDTH * len(sizes), HEIGHT, title, f"Sizes: {', '.join(sizes)} parameters")
    svg.text((16, 26), title, size=14, bold=True)
    for place, name in enumerate(sizes):
        own = {k[1:]: v for k, v in numbers.items() if k[0] == name}
        _panel(svg, place * WIDTH, name, own, upwards)
    return str(svg)


def _panel(
    svg: Svg, left: int, name: str, numbers: Mapping[tuple[int, int], Spread], upwards: Scale
) -> None:
    """Draw one size: a curve for each number of islands, with its name at the end."""
    first, last = left + EDGE, left + WIDTH - 16
    end = last - NAMES
    across = Scale(low=INTERVALS[0], high=INTERVALS[-1], start=first + 12, end=end, log=True)
    svg.text((first, 52), f"{name} parameters", bold=True)
    svg.upwards(upwards, (first, last), lambda value: f"{100 * value:+.0f} %", "")
    for interval in INTERVALS:
        svg.text((across(interval), HEIGHT - EDGE + 16), f"H = {interval}", size=11,
                 anchor="middle", colour=MUTED)  # fmt: skip
    svg.line([(first, upwards(0)), (last, upwards(0))], MUTED)
    taken: list[float] = []
    for islands in ISLANDS:
        own = {h: numbers[islands, h] for h in INTERVALS if (islands, h) in numbers}
        points = [(across(h), upwards(s.low), upwards(s.middle), upwards(s.high))
                  for h, s in own.items()]  # fmt: skip
        if points:
            _curve(svg, points, islands, taken)


def _curve(
    svg: Svg, points: Sequence[tuple[float, float, float, float]], islands: int, taken: list[float]
) -> None:
    """Draw a line through the means, a stroke over the seeds of each, and its name."""
    colour = COLOURS[islands]
    means = [(x, middle) for x, _, middle, _ in points]
    svg.line(means, colour, width=1.5)
    svg.dots(means, colour, size=6)
    for x, low, _, high in points:
        svg.line([(x, low), (x, high)], colour)
    y = means[-1][1]
    while any(abs(y - other) < NEAR for other in taken):
        y -= 1
    taken.append(y)
    svg.text((means[-1][0] + 10, y + 4), f"M = {islands}", size=11, colour=colour)


def catalogue(found: Found, sizes: Sequence[str]) -> Iterator[str]:
    """Yield the rows of `catalog/data/islands.toml`."""
    yield "# Progress per token of islands over data parallel training, measured; written by"
    yield "# benchmarks/islands_tables.py. The models are tiny: no plan of a large one rests on it."
    for name in sizes:
        model = SIZES[name]
        held = int(parameters(shape_of(model.spec)))
        for islands in ISLANDS:
            for interval in INTERVALS:
                make = plain(name, islands, interval)
                phi = of_seeds(found, make, lambda cell: efficiency(found, cell))
                if phi is not None:
                    yield (
                        f"m{islands}-h{interval}-{name} = {{islands = {islands}, "
                        f"interval = {interval}, parameters = {held}, "
                        f"tokens = {model.steps * BATCH * SEQ_LEN}, low = {phi.low:.3f}, "
                        f"value = {phi.middle:.3f}, high = {phi.high:.3f}, "
                        f'source = "{SOURCE}", date = "{DATE}", verified = true}}'
                    )


def tables(found: Found) -> Iterator[str]:
    """Yield the page."""
    spent_s = sum(row["cpu_s"] for row in found.values())
    yield "# Loss of islands against data parallel, tiny models, 2026-11-26 and 27"
    yield ""
    yield (
        f"`python -m benchmarks.islands` on two cores of an AMD EPYC, one thread, beside other "
        f"work: {len(found)} runs, {spent_s / 3600:.1f} CPU hours. Every cell of a size sees the "
        f"same tokens, {BATCH * SEQ_LEN:,} in each global batch, of which an island is given its "
        "share; crore's own corpus in a vocabulary of 512; AdamW inside, WSD schedule; outer "
        f"Nesterov of rate {OUTER_LR:g} and momentum {OUTER_MOMENTUM:g}. In brackets the range "
        f"over {len(SEEDS)} seeds. H: inner steps between outer steps. The inner rate is data "
        "parallel's and the outer one that of 4 islands at H = 30: no cell has rates of its own, "
        "so φ is what these rates reach, not the best that islands can."
    )
    yield ""
    sizes = finished(found)
    for name in sizes:
        yield from size_table(found, name)
    yield f"## Fewer bits, and streamed in {STREAMED['fragments']} fragments"
    yield ""
    yield f"{TUNED} parameters, H = {WHEN}, overlap {STREAMED['overlap']} steps."
    yield ""
    yield from variant_table(found)
    yield ""
    yield "## The gate on runs in which nothing is wrong"
    yield ""
    yield gate_line(found)
    yield ""
    yield "## Rates"
    yield ""
    yield "| setting | loss |"
    yield "| --- | --- |"
    yield from sweep_lines(found)


def write(path: str, lines: Iterable[str]) -> None:
    """Write lines as a file."""
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Write the page and the figure, and the catalogue's rows where a file is named."""
    found = cells_of(Path(arguments[0]))
    write(arguments[1], tables(found))
    sizes = finished(found)
    if sizes:
        Path(arguments[2]).write_text(figure(found, sizes), encoding="utf-8")
    if sizes and len(arguments) > 3:
        write(arguments[3], catalogue(found, sizes))


if __name__ == "__main__":
    main(sys.argv[1:])
