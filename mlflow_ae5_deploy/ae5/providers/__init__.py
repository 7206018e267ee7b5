"""Providers send requests over a signed-in connection: ae5-tools for clusters, built-in for the sandbox."""
