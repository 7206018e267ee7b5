"""Create a snapshot: the database first, then the artifacts, the manifest last."""
