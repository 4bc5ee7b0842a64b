"""`crore catalog`: what exists, and where each figure comes from."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile

if TYPE_CHECKING:
    from crore.catalog import Catalog

CATALOG_VERSION = 1
KINDS = ("gpus", "models", "fabrics", "clusters")
"""What `crore catalog` can list."""


def catalog(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="gpus, models, fabrics, clusters.")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this one, with every figure.")
    ] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """List what exists, or show one entry with its sources."""
    from crore.catalog import load_catalog
    from crore.cli.catalog_text import listing, record, sheet
    from crore.cli.document import dumped
    from crore.errors import UnknownName

    kind = kind.strip().lower()
    if kind not in KINDS:
        raise UnknownName("kind of catalogue entry", kind, KINDS, "crore catalog --help")
    loaded = load_catalog(catalog_file)
    if name is None:
        entries = [_find(loaded, kind, key) for key in _keys(loaded, kind)]
    else:
        entries = [_find(loaded, kind, name)]
    if as_json:
        typer.echo(dumped("catalog", CATALOG_VERSION, {kind: [record(entry) for entry in entries]}))
    elif name is None:
        typer.echo(listing(kind, entries))
    else:
        typer.echo(sheet(entries[0], _aliases(loaded, kind, entries[0].name)))


def _keys(loaded: "Catalog", kind: str) -> tuple[str, ...]:
    keys = {
        "gpus": loaded.accelerators,
        "models": loaded.models,
        "fabrics": loaded.fabrics,
        "clusters": loaded.clusters,
    }
    return keys[kind]()


def _find(loaded: "Catalog", kind: str, name: str) -> Any:
    find = {
        "gpus": loaded.accelerator,
        "models": loaded.model,
        "fabrics": loaded.fabric,
        "clusters": loaded.cluster,
    }
    return find[kind](name)


def _aliases(loaded: "Catalog", kind: str, key: str) -> tuple[str, ...]:
    """Return an entry's other names; a model read from a config.json has none."""
    section = "accelerators" if kind == "gpus" else kind
    return loaded.aliases(section, key) if key in _keys(loaded, kind) else ()
