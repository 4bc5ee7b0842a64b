"""What is made small: the answers' cross-entropy, and the loss of preferences.

R: rows, S: tokens of a row, V: words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crore.train.tune.packing import Rows
from crore.train.tune.template import IGNORED


def _on(model: Any, values: Any) -> Tensor:
    return torch.from_numpy(values).to(next(model.parameters()).device)


def logits_of(model: Any, rows: Rows) -> Tensor:
    """Return what a model says after each token, [R, S, V]."""
    found: Tensor = model(
        input_ids=_on(model, rows.tokens), position_ids=_on(model, rows.positions), use_cache=False
    ).logits
    return found


def targets_of(model: Any, rows: Rows) -> Tensor:
    """Return what comes after each token where that is an answer, else IGNORED, [R, S - 1]."""
    labels = _on(model, rows.labels)[:, 1:].clone()
    # A conversation's first token does not follow from the one before it.
    labels[_on(model, rows.positions)[:, 1:] == 0] = IGNORED
    return labels


def answer_nats(model: Any, rows: Rows) -> Tensor:
    """Return the sum of the answers' cross-entropy, nats."""
    logits = logits_of(model, rows)[:, :-1].float()
    return functional.cross_entropy(
        logits.flatten(0, 1), targets_of(model, rows).flatten(), ignore_index=IGNORED,
        reduction="sum",
    )  # fmt: skip


def log_probs(model: Any, rows: Rows) -> Tensor:
    """Return the log-probability of each row's answers, nats, [R]; a row is one conversation."""
    logits, targets = logits_of(model, rows)[:, :-1].float(), targets_of(model, rows)
    nats = functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    return -nats.sum(1)


def preference(lead: Tensor, before: Tensor, beta: float) -> Tensor:
    """Return the margins of preference, [R], which direct preference optimization makes large.

    β times how much larger the lead of the chosen answer's log-probability over the rejected one's
    is than it was `before`, with the model that was begun with; its loss is -log σ of that
    (arXiv 2305.18290 eq. 7).
    """
    return beta * (lead - before)
