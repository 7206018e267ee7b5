"""Accounts, sign-in and the identity provider of the sandbox."""
