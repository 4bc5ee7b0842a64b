"""The loop `crore train` is held against: the same model, nothing else. Prints step seconds."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from crore.catalog import load_catalog
from crore.model import build_decoder, initialise


def main(name: str, batch: int, seq_len: int, steps: int, threads: int) -> None:
    """Train on random tokens for some steps and print the seconds of each."""
    torch.set_num_threads(threads)
    spec = load_catalog().model(name)
    model = build_decoder(spec, seq_len, device="cpu")
    initialise(model, seed=0)
    model.reset_positions(torch.arange(seq_len))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        began_s = time.perf_counter()
        samples = torch.from_numpy(rng.integers(0, spec.vocab, (batch, seq_len + 1)))
        optimizer.zero_grad(set_to_none=True)
        logits = model(samples[:, :-1])
        assert isinstance(logits, torch.Tensor)
        loss = F.cross_entropy(logits.flatten(0, 1), samples[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        print(time.perf_counter() - began_s, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:6]))
