"""Upgrade to another release, with automatic rollback on failure."""
