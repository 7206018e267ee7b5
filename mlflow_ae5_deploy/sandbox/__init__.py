"""A local AE5 to rehearse on; shares no code with the client."""
