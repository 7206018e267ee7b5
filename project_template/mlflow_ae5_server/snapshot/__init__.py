"""Snapshots of database and artifacts together: taken, checked, kept, brought back."""
