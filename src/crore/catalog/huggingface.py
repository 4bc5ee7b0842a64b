"""Any Hugging Face `config.json` on disk as a model; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crore.catalog.hf_families import FAMILIES, Config, Figures
from crore.catalog.models import build_model
from crore.catalog.types import ModelSpec
from crore.errors import InputError, nearest
from crore.io import exists, parse_object, read_text


def read_hf_config(path: Path) -> ModelSpec:
    """Return the model that a `config.json`, or the folder holding one, describes.

    InputError when there is no such file, it is not JSON, its architecture is not supported or a
    key is missing; the message names it. The shape is as exact as the architecture allows: norms
    and biases beyond the ones `ModelSpec` can say are left out.
    """
    file = path / "config.json" if path.is_dir() else path
    data = _read_json(file)
    # A vision-language model keeps its decoder's shape one level down.
    text = data.get("text_config")
    inner = {**data, **text} if isinstance(text, Mapping) else data
    kind = inner.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise InputError(_refusal(file, kind))
    read = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    row = {
        **_figures(family, Config(f"{file} ({kind})", inner)),
        "source": str(file),
        "date": f"{read:%Y-%m}",
        "verified": True,
    }
    return build_model(_name(file), row)


def _figures(family: Callable[[Config], Figures], config: Config) -> Figures:
    try:
        return family(config)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as err:
        # A value of the wrong kind fails where it is first used; the file is to blame, not us.
        raise config.refuse(f"a value has the wrong kind ({err})") from err


def _read_json(file: Path) -> dict[str, Any]:
    if not exists(file):
        raise InputError(f"{file.parent} holds no config.json"[:240])
    return parse_object(read_text(file), str(file))


def _refusal(file: Path, kind: object) -> str:
    if not isinstance(kind, str):
        return f"{file} has no model_type: is it a Hugging Face config.json?"[:240]
    near = ", ".join(nearest(kind, FAMILIES)) or "write the shape as a [models.NAME] table instead"
    return f"architecture {kind[:40]!r} is not supported (nearest: {near}); in {file}"[:240]


def _name(file: Path) -> str:
    """Return what to call the model: its folder, or its file when that has a name of its own."""
    return file.resolve().parent.name if file.name == "config.json" else file.stem
