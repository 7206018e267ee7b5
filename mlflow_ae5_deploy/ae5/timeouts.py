"""How long the verbs wait for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WaitTimeouts:
    """Deadlines in seconds.

    project: an upload is processed and listed. deployment: a deployment starts. stop: a stopped one is gone.
    endpoint_free: the platform frees an endpoint of ours (1-2 minutes on Kubernetes). secret: a secret is listed.
    run: a job's run ends. visible: a new or changed record shows. lost_answer: one look for a write whose answer
    was lost. reuse: how old the answer that proved the session may be to be used as the list of projects.
    """

    project: float = 300
    deployment: float = 900
    stop: float = 300
    endpoint_free: float = 180
    secret: float = 300
    run: float = 3600
    visible: float = 60
    lost_answer: float = 20
    reuse: float = 30
