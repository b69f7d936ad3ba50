"""Classification of errors as permanent faults of a file or transient faults of the machine."""

from __future__ import annotations

import errno

from intertitle.pipeline.errors import JobError

# Error numbers of a file system that concern the path itself. All others concern the machine, its
# disks, its network or its permissions: the path may be readable on another node or at a later
# time.
_OF_THE_PATH = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EINVAL}
)
# FFmpeg reports damaged data with error numbers of the operating system (EIO, EINVAL, ENOMEM,
# EPERM); only these do not depend on the data.
_OF_THE_MACHINE_FOR_FFMPEG = frozenset(
    {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
)
# A full disk or quota, and failures of a disk, a mount or the system.
_OUTAGES = _OF_THE_MACHINE_FOR_FFMPEG | {errno.EDQUOT, errno.EIO, errno.ENOMEM}


class UnavailableError(OSError):
    """An object store did not answer properly before the deadline; the request is not retried."""


class CredentialsError(JobError):
    """An object store refuses this process' credentials, even after they were renewed.

    The error concerns every object, so it ends the job instead of rejecting one item after another.
    """


def is_machine_fault(error: BaseException) -> bool:
    """Return whether an error is a fault of the machine: another node or a later call may succeed.

    An OSError without a number, which decoders raise for damaged data, is not a machine fault.
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


def is_outage(error: OSError) -> bool:
    """Return whether the same call may succeed later, on the same machine and with the same paths.

    Permissions are not counted: whoever names a path can change them.
    """
    return error.errno in _OUTAGES or isinstance(error, UnavailableError | TimeoutError)


def is_remote_failure(error: BaseException) -> bool:
    """Return whether an error is from an object store's client, whose classes are not built in."""
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")
