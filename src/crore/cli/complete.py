"""Shell completion of the names one would otherwise look up."""

from crore.errors import CroreError


def complete_gpu(incomplete: str) -> list[str]:
    """Return the GPUs whose name or alias starts with `incomplete`."""
    return _starting(incomplete, "accelerators")


def complete_cluster(incomplete: str) -> list[str]:
    """Return the clusters whose name or alias starts with `incomplete`."""
    return _starting(incomplete, "clusters")


def complete_fabric(incomplete: str) -> list[str]:
    """Return the fabrics whose name or alias starts with `incomplete`."""
    return _starting(incomplete, "fabrics")


def complete_model(incomplete: str) -> list[str]:
    """Return the models whose name or alias starts with `incomplete`."""
    return _starting(incomplete, "models")


def complete_target(incomplete: str) -> list[str]:
    """Return the missions, and the models by name or alias, that start with `incomplete`."""
    return complete_mission(incomplete) + complete_model(incomplete)


def complete_mission(incomplete: str) -> list[str]:
    """Return the missions that start with `incomplete`."""
    from crore.plan import mission_names

    return [name for name in mission_names() if name.startswith(incomplete)]


def _starting(incomplete: str, section: str) -> list[str]:
    from crore.catalog.load import shipped

    try:
        table = shipped(section)
        names = [name for key in table.keys() for name in (key, *table.aliases(key))]  # noqa: SIM118
    except CroreError:  # a shell shows nothing better than nothing
        return []
    return [name for name in names if name.startswith(incomplete)]
