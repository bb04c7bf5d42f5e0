"""The pure core: requests become facts, facts change state, state and facts yield orders."""
