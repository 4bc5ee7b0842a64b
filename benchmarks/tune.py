"""What a model tuned on the default conversations knows of questions it has not seen.

    crore tune RUN --method full --out TUNED
    python -m benchmarks.tune TUNED [--base FOLDER]

Prints one table: answer loss before and after, nats a token. The questions that decided which
weights were written are apart from the others, which nothing was chosen by; and apart are those
of the others with no twin: no question learned has an answer of nearly the same letters. Then how
many answers to the others end by themselves.
"""

from __future__ import annotations

import argparse
import difflib
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from crore.train.tune.conversations import Conversation, question_of, split
from crore.train.tune.corpus import default_conversations
from crore.train.tune.losses import answer_nats
from crore.train.tune.models import load
from crore.train.tune.packing import pack
from crore.train.tune.settings import Tuning
from crore.train.tune.template import IGNORED, Template, tokenizer_of

TWIN: Final = 0.9
"""Of difflib's ratio: answers this alike are twins."""
ALIKE: Final = 0.5
"""Share of words in common, below which no two answers are twins."""
ROWS_AT_ONCE: Final = 8
MOST: Final = 200
"""Tokens of an answer, which then has not ended by itself."""
Groups = dict[str, list[Conversation]]


def twins(asked: Iterable[Conversation], learned: Sequence[Conversation]) -> list[Conversation]:
    """Return those whose answer is nearly that of a learned question."""
    known = {answer: set(answer.split()) for answer in map(answer_of, learned)}
    return [c for c in asked if _has_twin(answer_of(c), known)]


def answer_of(conversation: Conversation) -> str:
    """Return what was answered last, as it is compared."""
    return " ".join(conversation[-1]["content"].lower().split())


def _has_twin(answer: str, known: dict[str, set[str]]) -> bool:
    words = set(answer.split())
    return answer in known or any(
        len(words & others) > ALIKE * len(words | others)
        and difflib.SequenceMatcher(None, answer, other).ratio() > TWIN
        for other, others in known.items()
    )


def groups(tokenizer: Any, usual: Tuning) -> Groups:
    """Return the held-out conversations that fit a row, by what is to be known of them."""
    told, template, evaluated = default_conversations(), Template(tokenizer), usual.evaluated
    learned, found = split(told, {k: question_of(c) for k, c in enumerate(told)})
    held = [c for c in found if len(template.example(c)) <= usual.seq_len]
    others = held[evaluated:]
    shared = twins(others, learned)
    return {
        "that decided": held[:evaluated],
        "the others": others,
        "of these, with no twin": [c for c in others if c not in shared],
        "of these, about Python": [c for c in others if "`" in c[0]["content"]],
        "of these, small talk": [c for c in others if "`" not in c[0]["content"]],
    }


def loss(model: Any, tokenizer: Any, asked: Sequence[Conversation], seq_len: int) -> float:
    """Return the mean over the answers' tokens, nats."""
    rows = pack([Template(tokenizer).example(c) for c in asked], seq_len, tokenizer.eos_token_id)
    starts = range(0, len(rows), ROWS_AT_ONCE)
    parts = [range(at, min(at + ROWS_AT_ONCE, len(rows))) for at in starts]
    with torch.no_grad():
        return sum(float(answer_nats(model, rows.of(part))) for part in parts) / rows.answers


def lengths(model: Any, tokenizer: Any, asked: Sequence[Conversation]) -> list[tuple[int, int]]:
    """Return tokens of each last answer as it was written and as the model gives it, greedily."""
    found = []
    for conversation in asked:
        told = Template(tokenizer).example(conversation)
        written = len(told) - int((told.labels == IGNORED).nonzero()[0][-1]) - 1
        prompt = torch.from_numpy(told.tokens[:-written])[None]
        with torch.no_grad():
            given = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=MOST, do_sample=False
            )
        found.append((written, given.shape[1] - prompt.shape[1]))
    return found


def main(report: Callable[[str], object] = print) -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tuned", type=Path)
    parser.add_argument("--base", type=Path, help="FOLDER/base if left out")
    asked = parser.parse_args()
    usual = Tuning(folder=asked.tuned, base=asked.tuned, method="full")
    base = Tuning(folder=asked.tuned, base=asked.base or asked.tuned / "base", method="full")
    models = [load(tuning).eval() for tuning in (base, usual)]
    tokenizer = tokenizer_of(usual.base)
    report("| held-out questions | | before | after | |\n|---|--:|--:|--:|--:|")
    found = groups(tokenizer, usual)
    for name, held in found.items():
        before, after = (loss(model, tokenizer, held, usual.seq_len) for model in models)
        report(f"| {name} | {len(held)} | {before:.3f} | {after:.3f} | {after / before - 1:+.1%} |")
    told = lengths(models[-1], tokenizer, found["the others"])
    written, given = (statistics.median(column) for column in zip(*told, strict=True))
    ended = sum(tokens < MOST for _, tokens in told)
    report(
        f"\n{ended} of {len(told)} answers to the others end by themselves within {MOST} tokens; "
        f"median {given:.0f} tokens, {written:.0f} as written"
    )


if __name__ == "__main__":
    main()
