"""Bytes of callers that the server holds in memory, and their limit."""

from __future__ import annotations

from intertitle.jobs.serving.errors import full


class Capacity:
    """Bytes that all requests and jobs may hold together.

    Args:
        num_bytes: maximum number of bytes.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = self._free = num_bytes

    def claim(self, num_bytes: int) -> Claim:
        """Claim bytes, which have to be released.

        Raises:
            ApiError: so many are not free.
        """
        claim = Claim(self)
        claim.grow(num_bytes)
        return claim

    def take(self, num_bytes: int) -> None:
        """Take bytes; a negative number gives them back.

        Raises:
            ApiError: so many are not free.
        """
        if num_bytes > self._free:
            raise full(f"{self._num_bytes:,} bytes of all requests at a time: try again")
        self._free -= num_bytes


class Claim:
    """Bytes that one request or job holds.

    Args:
        capacity: bytes of the server.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity, self._held = capacity, 0

    def grow(self, num_bytes: int) -> None:
        """Claim further bytes.

        Raises:
            ApiError: so many are not free.
        """
        self._capacity.take(num_bytes)
        self._held += num_bytes

    def release(self) -> None:
        """Give all bytes back."""
        self._capacity.take(-self._held)
        self._held = 0
