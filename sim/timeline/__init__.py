"""Draws what happened when in a run as a Chrome trace, which Perfetto opens."""
