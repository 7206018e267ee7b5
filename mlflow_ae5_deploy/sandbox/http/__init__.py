"""The sandbox over HTTPS: the façade that ae5-tools and browsers talk to."""
