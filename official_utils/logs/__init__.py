"""Hooks and loggers of a training run."""
