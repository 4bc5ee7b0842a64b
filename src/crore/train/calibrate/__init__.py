"""Measure this machine, so that a plan for it is a prediction its run can refute."""

from __future__ import annotations

from crore.train.calibrate.run import calibrate

__all__ = ["calibrate"]
