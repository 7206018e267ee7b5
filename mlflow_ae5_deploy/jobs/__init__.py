"""Runs of the project's commands on the platform: contract, requests, runs, logs, results."""
