"""What an installation consists of: project, secrets, deployment, token, sharing, scheduled jobs."""
