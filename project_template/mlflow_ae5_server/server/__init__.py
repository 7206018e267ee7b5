"""The tracking server: application, hosts, workers."""
