"""crore: plan, simulate and train language models on one GPU up to ten million."""

__all__ = ["__version__"]

__version__ = "0.1.0"
