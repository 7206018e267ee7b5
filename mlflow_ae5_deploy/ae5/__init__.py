"""The boundary to AE5: client, models, sessions, providers, and the map of foreign errors."""
