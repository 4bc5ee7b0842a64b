"""A model in a Hugging Face folder, by crore's names: split, stacked and folded on the way.

Baichuan's W_pack comes apart into queries, keys and values; Baichuan 2's head, which its own code
normalises in every pass (NormHead, arXiv 2309.10305 §2.3), is normalised once.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crore.catalog.huggingface import read_hf_config
from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.io import parse_object, read_text
from crore.serve.importing.shards import Fetch, Shards
from crore.serve.layouts import LAYOUTS, Layout, layout_of
from crore.serve.names import Link, links, shapes

FAMILIES: Final = tuple(LAYOUTS)
NORMED_VOCAB: Final = 125_696
"""Rows of Baichuan 2's head; Baichuan's own has 64,000 and no NormHead."""
IGNORED: Final = (".rotary_emb.inv_freq", ".self_attn.rotary_emb.cos_cached")
"""Tables that older files carry, and that follow from the configuration."""


class HfFolder:
    """A model that is read tensor by tensor."""

    def __init__(self, folder: Path, spec: ModelSpec, layout: Layout, shards: Shards) -> None:
        self.folder, self.spec, self.layout = folder, spec, layout
        self.config = parse_object(read_text(folder / "config.json"), "config.json")
        self._shards = shards
        self._links: dict[str, list[Link]] = {}
        for link in links(spec, layout):
            self._links.setdefault(link.ours, []).append(link)
        self.shapes = shapes(spec)
        """By name, in the order in which they are best read: file after file."""
        self._check()
        last = {
            ours: max(shards.order(link.theirs) for link in parts)
            for ours, parts in self._links.items()
        }
        order = sorted(self.shapes, key=last.__getitem__)
        self.shapes = {name: self.shapes[name] for name in order}
        shards.expect(Counter(link.theirs for parts in self._links.values() for link in parts))
        self._normed = self.config.get("model_type") == "baichuan" and (
            spec.vocab == NORMED_VOCAB or "z_loss_weight" in self.config
        )

    @property
    def context(self) -> int:
        """Tokens the model was made for."""
        keys = ("max_position_embeddings", "model_max_length", "max_sequence_length")
        return next((int(self.config[key]) for key in keys if self.config.get(key)), 4096)

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are stored in, as `config.json` says; fp32 where it says nothing."""
        name = str(self.config.get("dtype", self.config.get("torch_dtype", "float32")))
        return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)

    def read(self, name: str) -> Tensor:
        """Return a tensor, as it is stored or folded."""
        parts = [self._shards.take(it.theirs, it.first, it.last) for it in self._links[name]]
        whole = parts[0] if self._links[name][0].expert is None else torch.stack(parts)
        if tuple(whole.shape) != self.shapes[name]:
            raise InputError(
                f"{self._links[name][0].theirs} is {list(whole.shape)}, and config.json says "
                f"{list(self.shapes[name])}"
            )
        if self._normed and name == "head.weight":
            return normalize(whole.float(), dim=-1).to(whole.dtype)
        return whole

    def close(self) -> None:
        """Close the last file."""
        self._shards.close()

    def _check(self) -> None:
        """Raise InputError unless the files hold the tensors that config.json promises."""
        asked = {link.theirs for parts in self._links.values() for link in parts}
        here = set(self._shards.places)
        tied = {"lm_head.weight"} if self.spec.tied_embeddings else set()
        more = sorted(n for n in here - asked - tied if not n.endswith(IGNORED))
        if lost := sorted(asked - here):
            raise InputError(f"{str(self.folder)[-60:]} lacks {lost[0]}, one of {len(lost)}")
        if more:
            raise InputError(
                f"{str(self.folder)[-60:]} has {more[0]}, one of {len(more)} tensors that a "
                f"{self.layout.architecture} has no place for"
            )


def open_hf(folder: Path, *, fetch: Fetch | None = None, delete: bool = False) -> HfFolder:
    """Return the model in a Hugging Face folder.

    `fetch` is told of a file that is not there before it is read. `delete` removes each file once
    all of it was taken: for disks that do not hold a model twice. Raises InputError for another
    architecture, and for one that is not as its `config.json` says.
    """
    spec = read_hf_config(folder)
    config = parse_object(read_text(folder / "config.json"), "config.json")
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise InputError(f"{family} is not imported; what is: {', '.join(FAMILIES)}")
    _check_config(config)
    layout_of(spec)  # what no layout says was misread
    if LAYOUTS[family].fused and spec.kv_heads != spec.heads:
        raise InputError(f"its W_pack has {spec.kv_heads} key heads beside {spec.heads} of queries")
    return HfFolder(folder, spec, LAYOUTS[family], Shards(folder, fetch=fetch, delete=delete))


def _check_config(config: dict[str, Any]) -> None:
    """Raise InputError for what a model may ask for and crore's does not compute."""
    turned = config.get("partial_rotary_factor", 0.5 if config["model_type"] == "glm4_moe" else 1.0)
    for key in ("rope_scaling", "rope_parameters"):
        asked = config.get(key) or {}
        kind = asked.get("rope_type", asked.get("type", "default"))
        if kind not in ("default", None):
            raise InputError(
                f"its rotary positions are scaled ({key}: {kind}), which crore does not compute"
            )
        turned = asked.get("partial_rotary_factor", turned)
    if turned != 1.0:
        raise InputError(f"it turns {turned} of each head alone, which crore does not compute")
    act = config.get("hidden_act", "silu")
    if act not in ("silu", "swish"):
        raise InputError(f"its feed-forward is gated by {act}; crore knows silu")
    if config.get("routed_scaling_factor", 1.0) != 1.0 or config.get("n_group", 1) != 1:
        raise InputError("its experts are scaled or chosen by groups, which crore's are not")
    if config.get("quantization_config"):
        raise InputError("its weights are quantised; import the original ones")
