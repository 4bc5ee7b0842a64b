"""A small writer of SVG: marks on a white sheet, with a title and a description for who listens.

No fonts but the reader's own, no scripts, nothing loaded. Lengths are pixels, y runs downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from crore.plan.text.scale import Scale

INK, MUTED, LINE, PALE = "#1f2328", "#59636e", "#d1d9e0", "#eaeef2"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Colours that the colour-blind tell apart (Okabe and Ito, 2008)."""
CHARACTER: Final = 0.56
"""Width of a character of running text, as a share of the size of the font."""
Point = tuple[float, float]


class Svg:
    """A picture; every method adds a mark and returns nothing. `str` gives the file."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self._root = Element("svg", {
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}", "height": f"{height:g}", "role": "img",
            "font-family": "system-ui, sans-serif", "font-size": "12", "fill": INK,
            "style": "max-width:100%;height:auto",
        })  # fmt: skip
        SubElement(self._root, "title").text = printable(title)
        SubElement(self._root, "desc").text = printable(description)
        self.box((0, 0), width, height, "white")

    def text(
        self, at: Point, words: str, *, size: float = 12, anchor: str = "start",
        colour: str = INK, bold: bool = False, turned: bool = False,
    ) -> None:  # fmt: skip
        """Write words; `anchor` is start, middle or end of them; `turned` runs upwards."""
        mark = self._add("text", x=at[0], y=at[1], **{"font-size": size})
        if anchor != "start":
            mark.set("text-anchor", anchor)
        if colour != INK:
            mark.set("fill", colour)
        if bold:
            mark.set("font-weight", "600")
        if turned:
            mark.set("transform", f"rotate(-90 {number(at[0])} {number(at[1])})")
        mark.text = printable(words)

    def box(self, at: Point, width: float, height: float, colour: str, *, edge: str = "") -> None:
        """Fill a rectangle from its upper left corner."""
        mark = self._add("rect", x=at[0], y=at[1], width=width, height=height)
        mark.set("fill", colour)
        if edge:
            mark.set("stroke", edge)

    def line(
        self, points: Sequence[Point], colour: str, *, width: float = 1, dash: str = ""
    ) -> None:
        """Draw straight lines from point to point."""
        steps = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        mark = self._add("polyline", points=steps, fill="none", stroke=colour)
        mark.set("stroke-width", number(width))
        if dash:
            mark.set("stroke-dasharray", dash)

    def dots(
        self, points: Iterable[Point], colour: str, *, size: float = 6, opacity: float = 1.0
    ) -> None:
        """Draw a round dot at each point: one mark for all, each over those before it."""
        steps = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
        mark = self._add("path", d=steps, fill="none", stroke=colour)
        mark.set("stroke-width", number(size))
        mark.set("stroke-linecap", "round")
        if opacity < 1:
            mark.set("stroke-opacity", f"{opacity:g}")

    def across(self, scale: Scale, ends: Point, show: Callable[[float], str], name: str) -> None:
        """Draw a horizontal axis at `ends[1]`, its grid up to `ends[0]`."""
        top, floor = ends
        for value in scale.ticks():
            self.line([(scale(value), top), (scale(value), floor)], PALE)
            self.text((scale(value), floor + 16), show(value), size=11, anchor="middle",
                      colour=MUTED)  # fmt: skip
        self.line([(scale.start, floor), (scale.end, floor)], MUTED)
        middle = (scale.start + scale.end) / 2
        self.text((middle, floor + 34), name, anchor="middle", colour=MUTED)

    def upwards(self, scale: Scale, ends: Point, show: Callable[[float], str], name: str) -> None:
        """Draw a vertical axis at `ends[0]`, its grid up to `ends[1]`."""
        left, right = ends
        ticks = scale.ticks()
        for value in ticks:
            self.line([(left, scale(value)), (right, scale(value))], PALE)
            self.text((left - 7, scale(value) + 4), show(value), size=11, anchor="end",
                      colour=MUTED)  # fmt: skip
        self.line([(left, scale.start), (left, scale.end)], MUTED)
        widest = max((len(show(value)) for value in ticks), default=0) * 11 * CHARACTER
        middle = (scale.start + scale.end) / 2
        at = (left - widest - 16, middle)
        self.text(at, name, anchor="middle", colour=MUTED, turned=True)

    def _add(self, kind: str, **attributes: float | str) -> Element:
        words = {k: v if isinstance(v, str) else number(v) for k, v in attributes.items()}
        return SubElement(self._root, kind, words)

    def __str__(self) -> str:
        indent(self._root, space="")
        return tostring(self._root, encoding="unicode") + "\n"


def number(value: float) -> str:
    """Return a length with a tenth of a pixel, no zero that says nothing."""
    return f"{round(value, 1) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"


def printable(words: str) -> str:
    """Return words without the control characters that XML cannot hold."""
    return "".join(c for c in words if c.isprintable())


def clipped(words: str, room: float, size: float = 12) -> str:
    """Return words cut to so many pixels, about, with a dot dot dot where they are."""
    most = max(1, int(room / (CHARACTER * size)))
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"
