"""`oj tui`: the live view in a terminal."""
