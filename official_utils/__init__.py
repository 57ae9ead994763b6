"""Shared utilities that know nothing of speech."""
