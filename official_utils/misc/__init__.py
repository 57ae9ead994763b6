"""Devices, files and errors."""
