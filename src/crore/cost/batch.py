"""How large a batch still helps: published laws of the critical batch, and what exceeding it costs.

The laws were fitted two to four decades below the largest runs and differ by sixty times there, so
a plan takes their range and not one of them. All coefficients are recalled from the papers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.cost.arrays import Num

HOFFMANN: Final = (1.69, 406.4, 0.34, 410.7, 0.28)
"""(E, A, α, B, β) of `E + A/N^α + B/D^β`, nats per token (arXiv 2203.15556, appendix D)."""
KAPLAN: Final = (2.0e8, 0.21)
"""(B*, α_B) of `B*/L^(1/α_B)` tokens at a loss of L nats (arXiv 2001.08361, equation 1.4)."""
DEEPSEEK: Final = (0.2920, 0.3271)
"""(factor, exponent) of the best batch, tokens, in training FLOPs (arXiv 2401.02954, §3.1)."""
STEP_LAW: Final = (0.58, 0.571)
"""(factor, exponent) of the best batch, tokens, in training tokens (arXiv 2503.04715)."""
BERGSMA: Final = (0.0471 * 2048, 0.462)
"""(factor, exponent) of the critical batch in training tokens; sequences of 2,048 tokens made
tokens (arXiv 2505.13738)."""
FLOPS_PER_PARAMETER_TOKEN: Final = 6.0
"""Training FLOPs per active parameter and token, forward and backward (arXiv 2001.08361 §2.1)."""


def hoffmann_loss(parameters: Num, tokens: Num) -> Num:
    """Loss, nats per token, of a dense model trained on `tokens` (Chinchilla, arXiv 2203.15556)."""
    floor, a, alpha, b, beta = HOFFMANN
    return floor + a / parameters**alpha + b / tokens**beta


def critical_batches(tokens: Num, training_flops: Num, loss: Num) -> dict[str, Num]:
    """Critical batch in tokens by each law; at 1e29 FLOPs 15 M, 890 M, 160 M and 640 M.

    `tokens` and `training_flops` are those of the whole run, `loss` its last, nats per token.
    DeepSeek's and StepLaw's are best batches, which lie near the critical one.
    """
    return {
        "kaplan": KAPLAN[0] / loss ** (1 / KAPLAN[1]),
        "deepseek": DEEPSEEK[0] * training_flops ** DEEPSEEK[1],
        "steplaw": STEP_LAW[0] * tokens ** STEP_LAW[1],
        "bergsma": BERGSMA[0] * tokens ** BERGSMA[1],
    }


def critical_batch(parameters: Num, active_parameters: Num, tokens: Num) -> tuple[Num, Num, Num]:
    """Return (lowest, median, highest) critical batch of the laws, in tokens.

    FLOPs are `6·active·tokens`; the loss is Hoffmann's for all parameters, the most favourable
    reading of a mixture of experts.
    """
    flops = FLOPS_PER_PARAMETER_TOKEN * active_parameters * tokens
    laws = critical_batches(tokens, flops, hoffmann_loss(parameters, tokens))
    stacked = np.stack(np.broadcast_arrays(*laws.values()))
    return stacked.min(axis=0), np.median(stacked, axis=0), stacked.max(axis=0)


def batch_efficiency(batch_tokens: Num, critical_tokens: Num) -> Num:
    """Share of the tokens that count, `1/(1 + B/B_crit)`: 1/2 at the critical batch.

    Against a batch so small that no token is wasted (McCandlish et al., arXiv 1812.06162, §2.3).
    """
    return 1.0 / (1.0 + batch_tokens / critical_tokens)
