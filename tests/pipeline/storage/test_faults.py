"""Whose fault an error is: the file's, or the machine's."""

from __future__ import annotations

import errno
import os

import av
import pytest

from intertitle.pipeline.storage.faults import is_machine_fault


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
        *(errno.ECONNRESET, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EAGAIN, errno.ENODEV),
        *(errno.EHOSTDOWN, errno.ENOTCONN, errno.EREMOTEIO, errno.EBUSY),
    ],
    ids=errno.errorcode.get,
)
def test_what_the_system_says_of_itself_is_the_machines(number: int) -> None:
    assert is_machine_fault(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(n, "") for n in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)),
        # As Pillow says that a file is damaged.
        OSError("image file is truncated"),
        ValueError("embedded null byte"),
        # As FFmpeg says it, in the numbers of a system.
        *(av.error.OSError(n, "") for n in (errno.EIO, errno.EINVAL, errno.ENOMEM, errno.EPERM)),
    ],
    ids=repr,
)
def test_what_is_said_of_a_path_or_of_data_is_the_files(error: Exception) -> None:
    assert not is_machine_fault(error)


def test_a_disk_that_fills_while_ffmpeg_works_is_the_machines() -> None:
    assert is_machine_fault(av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
