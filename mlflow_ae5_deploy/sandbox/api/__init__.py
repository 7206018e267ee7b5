"""The sandbox's HTTPS API, as ae5-tools and browsers use it."""
