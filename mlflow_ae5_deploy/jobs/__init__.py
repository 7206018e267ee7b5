"""Runs of the project's commands on the platform: started, followed, read."""
