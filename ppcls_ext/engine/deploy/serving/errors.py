"""The errors of the service: those that keep it from starting, and those that a request is answered with."""

from __future__ import annotations

from typing import Optional


class ServingError(RuntimeError):
    """The service cannot start."""


class RequestError(Exception):
    """A request that is refused as a whole.

    Attributes:
        status: of HTTP.
        code: a word for programs.
        message: a sentence for people.
        retry_after: seconds after which it may be tried again, if that helps.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: Optional[int] = None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
