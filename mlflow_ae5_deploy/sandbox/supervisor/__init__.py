"""Processes of the sandbox: deployments, jobs and their environment."""
