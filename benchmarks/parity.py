"""Every layout against one process, and what a rank of FSDP holds, as the tables of the guide.

python -m benchmarks.parity [WORD ...], from the project's folder: all cases, or those whose name or
model has one of the words. A line of progress for each goes to the standard error.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from tests.train.gloo import run
from tests.train.parity import LEAST_FALL, Case, References, compare
from tests.train.parity_cases import DENSE, MOE, VARIANTS, case, everything
from tests.train.state_bytes import counted, planned

from crore.model.split import Split

HEAD = (
    "| layout | model | ranks | max abs Δloss | max rel Δnorm | max abs Δweight | loss |",
    "|---|---|---|---|---|---|---|",
)
MEMORY_HEAD = (
    "| model | ranks | bytes of the fullest rank | the plan's | off |",
    "|---|---|---|---|---|",
)


def line(one: Case, references: References) -> str:
    """Run a case and return its line of the table."""
    found = compare([one], references)[0]
    beyond = "" if found.largest <= one.within else f" **beyond {one.within:g}**"
    beyond += " **learns too little**" if found.fall < LEAST_FALL else ""
    return (
        f"| {one.name} | {one.model} | {one.split.ranks} | {found.loss:.1e} | {found.norm:.1e} "
        f"| {found.weight:.1e}{beyond} | {found.first:.3f} → {found.last:.3f} |"
    )


def held(folder: Path) -> Iterator[str]:
    """Yield the lines of the memory table: ZeRO-3 at 1, 2, 4 and 8 ranks."""
    for model, spec in (("dense", DENSE), ("experts", MOE), ("uneven shards", None)):
        for ranks in (1, 2, 4, 8):
            one = case("", model, spec or VARIANTS[model], Split(dp_shard=ranks))
            fullest = max(rank.total for [rank] in run(counted, ranks, folder, [one]))
            plan = planned(one).total
            yield f"| {model} | {ranks} | {fullest:,} | {plan:,} | {fullest / plan - 1:+.1%} |"


def main(words: list[str]) -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    print(f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}\n")
    print("\n".join(HEAD), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        references = References(Path(folder))
        for one in everything():
            if words and not any(word in f"{one.name} {one.model}" for word in words):
                continue
            started = time.monotonic()
            print(line(one, references), flush=True)
            took_s = time.monotonic() - started
            print(f"{one.name}, {one.model}: {took_s:.1f} s", file=sys.stderr, flush=True)
        print("", *MEMORY_HEAD, *held(Path(folder)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
