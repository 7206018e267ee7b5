"""The boundary to AE5: client, sessions, providers, and the map of foreign errors."""
