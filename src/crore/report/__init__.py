"""One self-contained page of a plan, a mission or a run; and the planner in the browser."""
