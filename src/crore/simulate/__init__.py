"""What closed forms cannot see, and the check on them: events, seeds, traces.

`subject_of` and `step_of` read a plan's record, `simulate_plan` draws its run; below are the rooms
`run`, `failures`, `fabric` and `schedules`, each usable alone.
"""

from crore.simulate.run import Simulation, Step, Subject, simulate_plan, step_of, subject_of

__all__ = ["Simulation", "Step", "Subject", "simulate_plan", "step_of", "subject_of"]
