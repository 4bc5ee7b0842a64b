"""Worlds that train as one and outlive each other: membership by torchft, judgement by sums."""
