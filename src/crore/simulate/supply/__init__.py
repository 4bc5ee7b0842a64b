"""Supply step by step: deliveries, losses and retirements of every cohort; generations mixed."""

from crore.simulate.supply.fleet import History, grow

__all__ = ["History", "grow"]
