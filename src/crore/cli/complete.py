"""Shell completion of the names one would otherwise look up."""

from crore.errors import CroreError


def complete_gpu(incomplete: str) -> list[str]:
    """Return the GPUs whose name or alias starts with `incomplete`."""
    return _starting(incomplete, "accelerators")


def complete_target(incomplete: str) -> list[str]:
    """Return the missions, and the models by name or alias, that start with `incomplete`."""
    from crore.plan import mission_names

    missions = [name for name in mission_names() if name.startswith(incomplete)]
    return missions + _starting(incomplete, "models")


def _starting(incomplete: str, section: str) -> list[str]:
    from crore.catalog import load_catalog

    try:
        catalog = load_catalog()
        keys = catalog.accelerators() if section == "accelerators" else catalog.models()
        names = [name for key in keys for name in (key, *catalog.aliases(section, key))]
    except CroreError:  # a shell shows nothing better than nothing
        return []
    return [name for name in names if name.startswith(incomplete)]
