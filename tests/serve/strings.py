"""Random strings of every script, of emoji, of what no keyboard has."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

PLANES = ((0x20, 0xD800), (0xE000, 0x32000))  # what lies between are halves of UTF-16
EMOJI = (*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F700), *range(0x1F900, 0x1FA00),
         *range(0x2600, 0x27C0), 0x200D, 0xFE0F)  # fmt: skip
BLANKS = " \t\n\r\u00a0\u2003\u3000"


def scripts() -> dict[str, list[str]]:
    """Return the assigned characters of each script: the first word of their names."""
    found: dict[str, list[str]] = {}
    for first, last in PLANES:
        for point in range(first, last):
            name = unicodedata.name(chr(point), "")
            if name:
                found.setdefault(name.split()[0].split("-")[0], []).append(chr(point))
    return {script: letters for script, letters in found.items() if len(letters) > 3}


def strings(count: int, seed: int) -> Iterator[str]:
    """Yield strings: in turn of one script, of mixed ones, of emoji, of blanks and contractions."""
    draw, known = random.Random(seed), scripts()  # noqa: S311 - no secrets
    names = sorted(known)
    emoji = [chr(point) for point in EMOJI]
    words = ["it's", "we'LL", "don't", "12345", "x=1;", "...", "naïve", "e\u0301", "\u0000"]
    for number in range(count):
        length = draw.randint(1, 24)
        if number % 4 == 0:
            letters = known[names[number // 4 % len(names)]]
            yield "".join(draw.choice([*draw.choices(letters, k=4), " "]) for _ in range(length))
        elif number % 4 == 1:
            yield "".join(draw.choice(known[draw.choice(names)]) for _ in range(length))
        elif number % 4 == 2:
            yield "".join(draw.choice([*draw.choices(emoji, k=3), " ", "a"]) for _ in range(length))
        else:
            parts = [draw.choice(words), draw.choice(BLANKS), draw.choice(BLANKS)]
            yield "".join(draw.choice(parts) for _ in range(length))
