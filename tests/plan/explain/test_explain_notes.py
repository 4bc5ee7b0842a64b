"""Formulas and constants speak for themselves: their words come from the code."""

from __future__ import annotations

from crore.cost import Constants
from crore.cost.goodput import DISK, mean_time_between_failures_s
from crore.cost.layout import Layout
from crore.plan.explain.notes import citations, constant, field_note, note_of


def test_a_function_says_where_it_is_and_what_it_computes():
    note = note_of(mean_time_between_failures_s)
    assert note.function == "crore.cost.goodput.mean_time_between_failures_s"
    assert "`1/(κ·λ·N)`" in note.text
    assert "\n" not in note.text


def test_a_property_is_a_function_too():
    assert note_of(Layout.dp).text == "Data-parallel ranks."


def test_a_constant_brings_its_value_and_its_source():
    value, note = constant("crore.cost.goodput.DISK")
    assert value == DISK
    assert note.startswith("(checkpoint write, restart) seconds")
    assert constant("crore.plan.plan.DAY_S") == (86_400.0, "")


def test_a_field_says_what_stands_below_it():
    assert field_note(Constants, "gemm_share").startswith("Of the measured 16-bit matmul rate")
    assert field_note(Constants, "gemm_share_fp8") == ""


def test_sources_are_found_in_the_text_once_each():
    text = "(arXiv 2407.21783) and arXiv 2407.21783, NVIDIA/nccl src; Gemini, SOSP 2023, best case"
    assert citations(text) == ("arXiv 2407.21783", "NVIDIA/nccl", "SOSP 2023")
