"""The boundary to AE5: records, sessions, typed verbs, and the translation of foreign errors."""
