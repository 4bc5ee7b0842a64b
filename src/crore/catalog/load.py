"""The catalogue: shipped rows, a user's own rows merged in, found by exact name."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crore.catalog.accelerators import THIS_MACHINE, build_accelerator, calibrated, divided
from crore.catalog.calibration import (
    Calibration,
    calibration_from,
    find_calibration,
    is_calibration,
    read_calibration,
)
from crore.catalog.huggingface import read_hf_config
from crore.catalog.models import build_model
from crore.catalog.networks import build_cluster, build_fabric
from crore.catalog.rows import Row, Table, make_table
from crore.catalog.types import Accelerator, Cluster, Fabric, ModelSpec
from crore.errors import InputError, UnknownName, shown
from crore.io import exists, read_toml

DATA = Path(__file__).parent / "data"
# Section (= file) -> what a row is called in messages, the command that lists them, the builder.
_SECTIONS: Mapping[str, tuple[str, str, Callable[[str, Row], Any]]] = {
    "models": ("model", "crore catalog models", build_model),
    "accelerators": ("GPU", "crore catalog gpus", build_accelerator),
    "fabrics": ("fabric", "crore catalog fabrics", build_fabric),
    "clusters": ("cluster", "crore catalog clusters", build_cluster),
}


def _find_path(name: str) -> Path | None:
    """Return the file or folder that `name` points to, None when there is none."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~name of no user
        return None
    return path if name.strip() and exists(path) else None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything crore knows to exist; rows are built when they are asked for."""

    extra: Mapping[str, Table] = field(default_factory=dict)
    """Section -> the whole table, for the sections a user's file adds to."""
    calibration: Calibration | None = None
    """Of this machine, where the user's file is one; else it is looked for when asked for."""

    def model(self, name: str) -> ModelSpec:
        """Return a model by key, alias, or path to a Hugging Face `config.json` (or its folder).

        UnknownName when no row or file has the name; InputError when a file cannot be used.
        """
        table = self._table("models")
        key = table.find(name)
        if key is not None:
            return build_model(key, table.merged(key))
        path = _find_path(name)
        if path is not None:
            return read_hf_config(path)
        if name.endswith(".json") or name.startswith((".", "~", os.sep)):
            raise InputError(f"no file or folder {shown(name)}: give a config.json or a model")
        raise UnknownName(table.kind, name, table.names(), listing=table.listing)

    def accelerator(self, name: str) -> Accelerator:
        """Return an accelerator by key or alias; UnknownName when there is none."""
        key, row = self._row("accelerators", name)
        built = build_accelerator(key, row)
        found = self.this_machine() if key == THIS_MACHINE else None
        return built if found is None else calibrated(built, found)

    def shared(self, accelerator: Accelerator, processes: int) -> Accelerator:
        """Return an accelerator as one of so many processes sees it.

        They share this machine where it is a CPU, as measured or, unmeasured, in equal parts;
        every process has another accelerator to itself.
        """
        if accelerator.name != THIS_MACHINE:
            return accelerator
        found = self.this_machine()
        row = build_accelerator(*self._row("accelerators", THIS_MACHINE))
        return divided(row, processes) if found is None else calibrated(row, found, processes)

    def this_machine(self) -> Calibration | None:
        """Return what `crore calibrate` measured of this machine, None where it never did.

        From the catalogue's file, `calibration.toml` in the working folder, or crore's cache.
        """
        path = None if self.calibration else find_calibration()
        return self.calibration if path is None else read_calibration(path)

    def fabric(self, name: str) -> Fabric:
        """Return a fabric by key or alias; UnknownName when there is none."""
        key, row = self._row("fabrics", name)
        return build_fabric(key, row)

    def cluster(self, name: str) -> Cluster:
        """Return a cluster by key or alias, its accelerator and fabrics by their keys.

        UnknownName when there is no such cluster, or no such part of it.
        """
        key, row = self._row("clusters", name)
        cluster = build_cluster(key, row)

        def part(section: str, called: str) -> str:
            try:
                return self._table(section).key(called)
            except UnknownName as error:
                kind = f"{error.kind} in cluster {shown(key)}"
                raise UnknownName(kind, called, error.valid, error.listing) from error

        return replace(
            cluster,
            accelerator=part("accelerators", cluster.accelerator),
            fabric=part("fabrics", cluster.fabric),
            wan=part("fabrics", cluster.wan) if cluster.wan else "",
        )

    def models(self) -> tuple[str, ...]:
        """Return the keys of all models, in file order."""
        return self._table("models").keys()

    def accelerators(self) -> tuple[str, ...]:
        """Return the keys of all accelerators, in file order."""
        return self._table("accelerators").keys()

    def fabrics(self) -> tuple[str, ...]:
        """Return the keys of all fabrics, in file order."""
        return self._table("fabrics").keys()

    def clusters(self) -> tuple[str, ...]:
        """Return the keys of all clusters, in file order."""
        return self._table("clusters").keys()

    def aliases(self, section: str, name: str) -> tuple[str, ...]:
        """Return the other exact names of a row of `section` ("models", "accelerators", ...)."""
        table = self._table(section)
        return table.aliases(table.key(name))

    def _table(self, section: str) -> Table:
        return self.extra[section] if section in self.extra else shipped(section)

    def _row(self, section: str, name: str) -> tuple[str, dict[str, Any]]:
        table = self._table(section)
        key = table.key(name)
        return key, table.merged(key)


@functools.cache
def shipped(section: str) -> Table:
    """Return a table of the rows that come with the package; its file is parsed once."""
    kind, listing, _ = _SECTIONS[section]
    return make_table(kind, listing, read_toml(DATA / f"{section}.toml"))


def load_catalog(extra: Path | None = None) -> Catalog:
    """Return the shipped catalogue, with the rows of the TOML file `extra` merged in.

    The file has tables `[models.NAME]`, `[accelerators.NAME]`, `[fabrics.NAME]` and
    `[clusters.NAME]`; each row carries its own `source` and `date`. A row under a shipped key
    replaces that row, and may keep most of it with `base = "its own key"`. It may also be what
    `crore calibrate` wrote, which then is `this-machine`.
    InputError when a row is refused.
    """
    if extra is None:
        return Catalog()
    content = read_toml(extra)
    if is_calibration(content):
        return Catalog(calibration=calibration_from(content, extra.name))
    tables: dict[str, Table] = {}
    for section, rows in content.items():
        if section not in _SECTIONS:
            raise UnknownName(f"section in {extra.name}", section, _SECTIONS)
        tables[section] = _merge(section, rows)
    catalog = Catalog(extra=tables)
    for name in catalog.clusters() if tables else ():
        catalog.cluster(name)
    return catalog


def _merge(section: str, rows: Mapping[str, Row]) -> Table:
    """Return the shipped table of `section` with a user's rows over it, each row checked."""
    base = shipped(section)
    kind, listing, build = _SECTIONS[section]
    merged: dict[str, Row] = dict(base.rows)
    if not isinstance(rows, Mapping) or not all(isinstance(r, Mapping) for r in rows.values()):
        raise InputError(f"{section} holds something that is no row: write [{section}.NAME] tables")
    for key, row in rows.items():
        for required in ("source", "date"):
            # An inherited source would lend a published name to the user's own figures.
            if required not in row:
                example = f'{required} = "{_EXAMPLE[required]}"'
                raise InputError(f"{kind} {shown(key)} has no {required}: e.g. {example}")
        merged[key] = _over_itself(base, key, row)
    table = make_table(kind, listing, merged)
    for key in rows:
        build(key, table.merged(key))
    return table


_EXAMPLE = {"source": "mine", "date": "2025"}


def _over_itself(base: Table, key: str, row: Row) -> Row:
    """Return `row` flattened onto the shipped row it both replaces and inherits from."""
    if row.get("base") != key or key not in base.rows:
        return row
    own = {name: value for name, value in row.items() if name != "base"}
    shipped_says = {"verified": False, "note": "", "figures": {}}
    return {**base.merged(key), "aliases": base.aliases(key), **shipped_says, **own}
