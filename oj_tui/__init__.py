"""The live view of `oj`."""
