"""What a training run keeps and reports."""
