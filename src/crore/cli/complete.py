"""Shell completion of the names one would otherwise look up."""

from crore.errors import CroreError


def complete_gpu(incomplete: str) -> list[str]:
    """Return the GPUs whose name starts with `incomplete`."""
    from crore.catalog import load_catalog

    try:
        return _starting(incomplete, load_catalog().accelerators())
    except CroreError:
        return []


def complete_target(incomplete: str) -> list[str]:
    """Return the missions and models whose name starts with `incomplete`."""
    from crore.catalog import load_catalog
    from crore.plan import mission_names

    try:
        return _starting(incomplete, (*mission_names(), *load_catalog().models()))
    except CroreError:
        return []


def _starting(incomplete: str, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
