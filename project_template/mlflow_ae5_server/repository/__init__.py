"""The backup repository: backend, blobs, packs, index, lock, snapshots, check."""
