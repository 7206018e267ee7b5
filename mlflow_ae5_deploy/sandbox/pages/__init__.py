"""The sandbox's pages for a browser: plain HTML, read-only apart from signing in and out."""
