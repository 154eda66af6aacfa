"""Baselines: runs whose scores are recorded, so that a change that makes them worse is told.

`baseline` reads a baseline's file; `recorded` keeps the values beside it; `running` does the runs; `judging` says what
each score means; `reports` writes it down for people and for CI.
"""
