"""A GGUF file's header is read as the `gguf` package reads it, and damage is one line."""

from __future__ import annotations

import gguf
import pytest

from crore.errors import InputError
from crore.serve.gguf_header import is_gguf, read_header


def test_it_reads_what_the_gguf_package_reads(tiny):
    reader = gguf.GGUFReader(tiny)
    header = read_header(tiny)
    kept = {k: v for k, v in reader.fields.items() if not k.startswith("GGUF.")}
    arrays = {k for k, v in kept.items() if v.types[0] is gguf.GGUFValueType.ARRAY}
    assert header.keys() == {f"{k}.length" if k in arrays else k for k in kept}
    for name, field in kept.items():
        value = field.contents()
        assert header[f"{name}.length" if name in arrays else name] == (
            len(value) if name in arrays else pytest.approx(value)
        )


@pytest.mark.parametrize("size", [4, 10, 24, 100, 1000])
def test_a_file_cut_short_is_said_in_one_line(tiny, tmp_path, size):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:size])
    with pytest.raises(InputError, match="damaged GGUF file"):
        read_header(cut)


def test_what_is_no_gguf_file_is_said(tmp_path):
    other = tmp_path / "other.gguf"
    other.write_text("hello")
    assert not is_gguf(other)
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "none")
    with pytest.raises(InputError, match="is no GGUF file"):
        read_header(other)
