"""The backup repository: backend, blobs, packs, index, lock, snapshots, retention, check."""
