"""Measures `oj` beside others; `scripts/bench` is how it is started."""
