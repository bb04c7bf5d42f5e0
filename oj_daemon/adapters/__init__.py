"""Where things run."""
