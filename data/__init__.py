"""From audio files and transcripts to batches of tensors."""
