"""Shared utilities that know nothing about speech."""
