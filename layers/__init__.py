"""Layers: tensors with their lengths in, tensors with their lengths out."""
