"""What `crore.plan` offers is there, whatever was imported before."""

from __future__ import annotations

import importlib
import types

import pytest

import crore.plan


def test_every_public_name_has_a_home_and_no_other_does():
    assert set(crore.plan.__all__) == set(crore.plan._HOMES)


@pytest.mark.parametrize("name", crore.plan.__all__)
def test_a_public_name_is_what_its_module_defines(name):
    home = importlib.import_module(f"crore.plan.{crore.plan._HOMES[name]}")
    value = getattr(crore.plan, name)
    assert value is getattr(home, name)
    assert not isinstance(value, types.ModuleType)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'plans'"):
        _ = crore.plan.plans
