"""The files of a tokenizer as Hugging Face's libraries read them, a chat's template among them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from crore.errors import InputError
from crore.io import exists, parse_object, read_text, write_text
from crore.serve.export.model import Model

FILES: Final = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json", "vocab.json",
    "merges.txt", "config.json",
)  # fmt: skip
"""The last says which ids are special where the tokenizer's own files do not."""
CONFIG: Final = "tokenizer_config.json"


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer's files; raises InputError where there are none."""
    found = [source / name for name in FILES if exists(source / name)]
    if not {"tokenizer.json", "tokenizer.model"} & {path.name for path in found}:
        raise InputError(
            f"{str(source)[-80:]} holds no tokenizer.json and no tokenizer.model: put one there"
        )
    if source.resolve() == folder.resolve():
        return
    try:
        for path in found:
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)[-80:]}: {error.strerror}") from error


def write_tokenizer(model: Model, folder: Path) -> None:
    """Write a model's tokenizer into a folder, and its template of a chat where it has one."""
    copy_tokenizer(model.tokenizer, folder)
    if not exists(folder / CONFIG):
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.context,
            "clean_up_tokenization_spaces": False, "add_bos_token": False,
            "eos_token": model.end_of_text, "pad_token": model.end_of_text,
        }  # fmt: skip
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def special_ids(folder: Path) -> dict[str, int]:
    """Return `eos_token_id` and its like for a config.json, as the tokenizer's files say."""
    config = _config(folder)
    ids = {token["content"]: token["id"] for token in _added(folder)}
    found = {}
    for kind in ("bos", "eos", "pad"):
        token = config.get(f"{kind}_token")
        name = token.get("content") if isinstance(token, dict) else token
        if name in ids:
            found[f"{kind}_token_id"] = int(ids[name])
    return found


def _added(folder: Path) -> list[dict[str, Any]]:
    if not exists(folder / "tokenizer.json"):
        return []
    found = parse_object(read_text(folder / "tokenizer.json"), "tokenizer.json")
    return list(found.get("added_tokens") or [])


def _config(folder: Path) -> dict[str, Any]:
    if not exists(folder / CONFIG):
        return {}
    return parse_object(read_text(folder / CONFIG), CONFIG)
