"""A model written in the layouts of others: Hugging Face's safetensors, and GGUF of llama.cpp."""

from __future__ import annotations

from crore.serve.export.gguf import GGUF_TYPES, export_gguf
from crore.serve.export.hf import HF_TYPES, export_hf
from crore.serve.export.model import Model
from crore.serve.export.tokenizer import copy_tokenizer

__all__ = ["GGUF_TYPES", "HF_TYPES", "Model", "copy_tokenizer", "export_gguf", "export_hf"]
