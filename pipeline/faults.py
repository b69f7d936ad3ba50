"""Tells whose fault an error is: the file's, which stays, or the machine's, which passes."""

from __future__ import annotations

import errno

from pipeline.errors import JobError

# What a file system says of the path itself. Every other number is about the machine, its disks,
# its network or its rights: the same path may be read on another node, or an hour later.
_OF_THE_PATH = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EINVAL}
)
# FFmpeg reports damaged data with the numbers of an operating system (EIO, EINVAL, ENOMEM, EPERM);
# only these say nothing of the data.
_OF_THE_MACHINE_FOR_FFMPEG = frozenset(
    {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
)


class UnavailableError(OSError):
    """An object store that did not answer properly until its deadline: trying again is over."""


class CredentialsError(JobError):
    """An object store that refuses this process' credentials, renewed or not.

    It concerns every object alike, so it ends the job rather than one item after the other.
    """


def is_machine_fault(error: BaseException) -> bool:
    """Whether an error says nothing of the file: another node or a later call may read it.

    An OSError without a number, as decoders raise it over damaged data, is not one.
    """
    if is_remote_failure(error):
        return True
    if not isinstance(error, OSError):
        return False
    if type(error).__module__.partition(".")[0] == "av":
        return error.errno in _OF_THE_MACHINE_FOR_FFMPEG
    if error.errno is None:
        return isinstance(error, TimeoutError | ConnectionError | PermissionError)
    return error.errno not in _OF_THE_PATH


def is_remote_failure(error: BaseException) -> bool:
    """Whether a client of an object store gave up; those errors are of no built-in class."""
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")
