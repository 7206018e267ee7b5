"""Providers of signed-in connections: ae5-tools, and built-in for the sandbox."""
