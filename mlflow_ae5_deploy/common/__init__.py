"""Used by every layer: errors, redaction, clock, text, cron, durations."""
