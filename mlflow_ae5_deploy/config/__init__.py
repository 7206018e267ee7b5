"""Settings: their schema, where they come from, and checks of their values."""
