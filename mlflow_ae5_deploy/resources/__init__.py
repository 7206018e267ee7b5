"""Project, secrets, deployment, token, sharing and scheduled jobs."""
