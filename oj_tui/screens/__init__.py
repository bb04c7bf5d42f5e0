"""One screen, or a list and what it opens, per noun."""
