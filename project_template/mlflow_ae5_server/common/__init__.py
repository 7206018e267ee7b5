"""Shared by commands: settings, errors, redaction, report, object stores, probe."""
