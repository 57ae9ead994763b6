"""Programs that compare ours with a peer in the same run and print the ratio."""
