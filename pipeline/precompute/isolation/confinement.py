"""Confinement of a decoder process: no network, other files, other programs or other processes.

A decoder is a large C program that reads untrusted files. Landlock (Linux 5.13 and later) restricts
it to its input files, its own folder and the libraries; seccomp refuses new connections, new
programs and signals to other processes. Neither needs privileges.
"""

from __future__ import annotations

import errno
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import py_landlock
from py_landlock import AccessFs
from py_landlock.abi import get_supported_fs, get_supported_net, get_supported_scope
from py_landlock.prctl import set_no_new_privs

try:
    import pyseccomp
except (ImportError, RuntimeError):
    # pyseccomp needs libseccomp.so.2, which Debian, Ubuntu and Fedora have and other systems may
    # lack.
    pyseccomp = None

# Folders of shared libraries that may be loaded late.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_OWN_FOLDER = (
    AccessFs.READ_FILE
    | AccessFs.READ_DIR
    | AccessFs.WRITE_FILE
    | AccessFs.TRUNCATE
    | AccessFs.MAKE_REG
    | AccessFs.REMOVE_FILE
)

# System calls that reach the network, other programs or other processes. Operations of `io_uring`
# would bypass a filter of system calls.
_REFUSED = (
    *("socket", "io_uring_setup", "execve", "execveat", "ptrace"),
    *("process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal"),
    *("bpf", "perf_event_open", "userfaultfd", "add_key", "keyctl", "request_key"),
    *("mount", "umount2", "pivot_root", "unshare", "setns", "open_by_handle_at"),
)
# System calls whose first argument is a process, which may only be the caller itself.
_OF_A_PROCESS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# System calls that change the limits, the processors or the priority of a process, and the numbers
# of arguments that have to be 0, which stands for the caller. A rule compares an argument only
# once, so the caller's own process id is refused too.
_OF_THE_CALLER = (
    ("prlimit64", 0),
    ("sched_setaffinity", 0),
    ("setpriority", 0),
    ("setpriority", 1),
)


def confine(files: Iterable[Path], folders: Iterable[Path]) -> list[str]:
    """Restrict this process permanently to reading some files and writing to some folders.

    Args:
        files: regular files that the process may read; paths of other kinds are skipped.
        folders: folders in which the process may read and write.

    Returns:
        Short descriptions of the restrictions that this machine cannot enforce; empty if it
        enforces all.
    """
    gaps = []
    try:
        gaps += _restrict_access(files, folders)
    except (py_landlock.LandlockError, OSError) as error:
        gaps.append(f"other files (Landlock: {error})")
    try:
        gaps += _restrict_system_calls()
    except OSError as error:
        gaps.append(f"the network and other processes (seccomp: {error})")
    return gaps


def _restrict_access(files: Iterable[Path], folders: Iterable[Path]) -> list[str]:
    abi = py_landlock.get_abi_version()
    handled = get_supported_fs(abi)
    attributes = py_landlock.RulesetAttr()
    attributes.handled_access_fs = handled
    attributes.handled_access_net = get_supported_net(abi)
    attributes.scoped = get_supported_scope(abi)
    ruleset = py_landlock.create_ruleset(attributes)
    try:
        read = AccessFs.READ_FILE
        for folder in folders:
            _allow(ruleset, folder, _OWN_FOLDER & handled)
        _allow(ruleset, Path(os.devnull), read | AccessFs.WRITE_FILE)
        _allow(ruleset, Path("/proc/self"), read)
        for library in _library_folders():
            _allow(ruleset, library, read | AccessFs.READ_DIR)
        for file in files:
            if file.is_file():
                _allow(ruleset, file, read)
        set_no_new_privs()
        py_landlock.restrict_self(ruleset, None)
    finally:
        os.close(ruleset)
    truncates = "the truncation of other files (Landlock of Linux 6.2 and later)"
    return [] if AccessFs.TRUNCATE in handled else [truncates]


def _allow(ruleset: py_landlock.RulesetFd, path: Path, access: AccessFs) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # The path does not exist, or this user may not open it.
        return
    try:
        if not path.is_dir():
            access &= ~AccessFs.READ_DIR
        rule = py_landlock.PathBeneathAttr()
        rule.allowed_access, rule.parent_fd = access, descriptor
        py_landlock.add_rule(ruleset, rule)
    finally:
        os.close(descriptor)


def _library_folders() -> set[Path]:
    """Return the folders of modules and shared libraries.

    The project's folder is not among them, because it may hold other files.
    """
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    packages = {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    folders = {*standard, *packages, f"{sys.base_prefix}/lib", *_LIBRARIES}
    # The pipeline's own package too: tracebacks quote its source lines.
    return {Path(__file__).parents[2], *map(Path, folders)}


def _restrict_system_calls() -> list[str]:
    if pyseccomp is None:
        return ["the network and other processes (libseccomp is not installed)"]
    refusal, gaps = pyseccomp.ERRNO(errno.EPERM), []
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    not_this_process = pyseccomp.Arg(0, pyseccomp.NE, os.getpid())
    for name, arguments in [
        *((name, ()) for name in _REFUSED),
        *((name, (not_this_process,)) for name in _OF_A_PROCESS),
        *((name, (pyseccomp.Arg(n, pyseccomp.NE, 0),)) for name, n in _OF_THE_CALLER),
    ]:
        try:
            rules.add_rule(refusal, name, *arguments)
        except ValueError:
            gaps.append(f"{name} (an older libseccomp)")
    rules.load()
    return gaps
