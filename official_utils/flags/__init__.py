"""Flags that all programs of this repository share."""
