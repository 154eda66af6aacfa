"""Sweeps: one scenario run at many points, each of which changes some of its fields.

`spec` reads a sweep's file, of `fields`, `sampling` and `constraints`; `planning` makes its points and checks them all;
`folder` keeps what is done; `running` hands points to an executor (`executors`), whose processes do `work`; `report`
says what came out.
"""
