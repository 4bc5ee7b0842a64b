"""What a command needs beside the core install, said before it is imported."""

from importlib.util import find_spec

from crore.errors import InputError


def need_torch(command: str) -> None:
    """Raise InputError with the install lines where a package of the trainer is missing."""
    for package in ("torch", "tokenizers"):
        if find_spec(package) is None:
            raise InputError(
                f"crore {command} needs {package}: pip install torch==2.13.0 (without a card, "
                "see the README for a smaller build), then pip install 'crore[train]'"
            )


def need_packages(command: str, *packages: str, extra: str = "serve") -> None:
    """Raise InputError with the install line where a package of an extra is missing."""
    for package in packages:
        if find_spec(package) is None:
            raise InputError(f"crore {command} needs {package}: pip install 'crore[{extra}]'")
