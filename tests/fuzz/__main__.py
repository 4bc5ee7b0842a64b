"""Run cases by their seeds, from the root: `.venv/bin/python -m tests.fuzz 17 200-220`."""

from __future__ import annotations

import sys

from tests.fuzz.judge import judged


def main(words: list[str]) -> int:
    """Print what becomes of each case; 1 when one is wrong."""
    wrong = 0
    for word in words:
        first, _, last = word.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            outcome = judged(seed)
            wrong += bool(outcome.wrong)
            print(outcome, flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
