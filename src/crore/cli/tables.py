"""Plain text tables that fit a terminal and paste into a mail."""

import textwrap
from collections.abc import Sequence

WIDTH = 100
_GAP = "  "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows under a header, the first `left` columns flush left and the others right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def lay_out(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return _GAP.join(cells).rstrip()

    return "\n".join(map(lay_out, lines))


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """Return `name  value` lines, long values wrapped under their own column."""
    width = max((len(name) for name, _ in items), default=0) + len(_GAP)
    lines = []
    for name, value in items:
        wrapped = textwrap.wrap(value, WIDTH - width, break_on_hyphens=False) or [""]
        lines.append(f"{name:<{width}}{wrapped[0]}")
        lines += [" " * width + rest for rest in wrapped[1:]]
    return "\n".join(lines)


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` characters, the cut shown."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
