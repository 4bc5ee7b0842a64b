"""`python -m crore`, and the entry point of the `crore` script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        # Inside the try, so that Ctrl-C while modules load ends as quietly as later on.
        from crore.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
