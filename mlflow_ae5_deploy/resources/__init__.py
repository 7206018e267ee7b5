"""Project, secrets, deployment, token, sharing, scheduled jobs; and actions on them."""
