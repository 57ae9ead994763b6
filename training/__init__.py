"""A training run: its loop, its evaluation, its optimizer and its folder."""
