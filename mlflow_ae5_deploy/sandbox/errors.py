"""Refusals of the sandbox's API."""

from __future__ import annotations


class ApiError(Exception):
    """Answered as `status reason`: AE5 puts its message into the reason phrase."""

    def __init__(self, status: int, reason: str) -> None:
        # A reason phrase is one line of Latin-1.
        self.reason = " ".join(reason.split()).encode("latin-1", "replace").decode("latin-1")
        self.status = status
        super().__init__(f"{status} {self.reason}")


def not_found(what: str) -> ApiError:
    return ApiError(404, f"{what} not found")


def bad(reason: str) -> ApiError:
    return ApiError(400, reason)


def denied(reason: str) -> ApiError:
    return ApiError(403, reason)
