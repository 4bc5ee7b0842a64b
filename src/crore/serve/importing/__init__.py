"""Checkpoints of others, read tensor by tensor out of Hugging Face's folders."""

from __future__ import annotations

from crore.serve.importing.folder import HfFolder, open_hf

__all__ = ["HfFolder", "open_hf"]
