"""The tracking server, from the request inwards.

It checks no token: AE5's proxy in front of a private deployment does.

host_guard       refuses wrong hosts and origins, and sets the frame policy, as host_policy says
admission        how many requests use the database at once; 503 for the rest. Its sizes come from capacity
application      MLflow's application, loaded before the fork; artifact_guard: where clients may not write
variables        which variables of MLflow it does not start with
prefork          worker processes, as many as worker_count says
metrics          counters of all workers, and `/metrics`; observed: what it looks up at each scrape
job_runner       MLflow's own job runner, where it is enabled
"""
