"""Releases: obtained, checked, customized, compared."""
