"""Durability: the only package that writes state to disk."""
