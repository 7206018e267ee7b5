"""Used by every command: settings, errors, redaction, report, locks."""
