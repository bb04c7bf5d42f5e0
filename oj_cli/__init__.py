"""The command line of `oj`."""
