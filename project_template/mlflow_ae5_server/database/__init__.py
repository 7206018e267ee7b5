"""Check, dump, load and upgrade the tracking database."""
