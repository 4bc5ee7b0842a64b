"""What exists: models, accelerators, fabrics and clusters, each figure with its source."""

from crore.catalog.economics import Economics, Figure, load_economics
from crore.catalog.load import Catalog, load_catalog
from crore.catalog.runs import PublishedRun, read_runs
from crore.catalog.types import (
    MLA,
    Accelerator,
    Cluster,
    DeltaNet,
    Fabric,
    Mamba,
    ModelSpec,
    Provenance,
)

__all__ = [
    "MLA",
    "Accelerator",
    "Catalog",
    "Cluster",
    "DeltaNet",
    "Economics",
    "Fabric",
    "Figure",
    "Mamba",
    "ModelSpec",
    "Provenance",
    "PublishedRun",
    "load_catalog",
    "load_economics",
    "read_runs",
]
