"""What makes training speech harder: kinds of augmentation, and how they are drawn for an utterance."""
