"""Studies: the search for the best values of a scenario's fields, by several scores at once and within limits.

`spec` reads a study's file, whose fields and constraints are those of sweeps; `asking` has Optuna choose further points
from those that are done; `studying` runs them into a folder like a sweep's, and goes on where it was stopped; `report`
says what came out. `sim.pareto` has the front.
"""
