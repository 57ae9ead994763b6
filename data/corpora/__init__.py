"""One module a corpus: `download_X` brings it to the disk, `prepare_X` writes its manifests."""
