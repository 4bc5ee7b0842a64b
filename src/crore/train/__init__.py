"""The trainer: a plan carried out by PyTorch's own distributed engine, watched and resumed."""
