"""What a decoder that a file has taken over can reach."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import py_landlock
import pytest

from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation import confinement
from intertitle.pipeline.precompute.isolation.fork_server import bare_environment
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from tests.pipeline.precompute.isolation.conftest import FILM, LIMITS, SOURCE

SECRETS = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "OF_MY_OWN")
# What a decoder that a file has taken over would do; each says how it went.
ATTACKS = {
    "environment": "sorted(os.environ)",
    "its first environment": "open('/proc/self/environ').read()",
    "its parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "another file": "open(SECRET).read()",
    "another file by a link": "os.symlink(SECRET, 'link') or open('link').read()",
    "a folder": "os.listdir(os.path.dirname(SECRET))",
    "writing": "open(SECRET, 'w')",
    "truncating": "os.truncate(SECRET, 0)",
    "removing": "os.remove(SECRET)",
    "a connection": "socket.create_connection(('127.0.0.1', PORT), 5)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a local socket": "socket.socket(socket.AF_UNIX)",
    "a program": "os.posix_spawn('/bin/true', ['true'], {})",
    "a signal": "os.kill(os.getppid(), 0)",
    "a signal to a thread": "tkill(os.getppid())",
    "another's limits": "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    "another's processors": "os.sched_setaffinity(os.getppid(), {0})",
    "another's priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)",
    "a group's priority": "os.setpriority(os.PRIO_PGRP, 0, 0)",
    "its own limits": "resource.getrlimit(resource.RLIMIT_CORE)",
    "its own file": "len(open(FILM, 'rb').read())",
    "a temporary file": "tempfile.TemporaryFile().write(b'some')",
}
CONFINED = f"""
import ctypes, json, os, resource, socket, sys, tempfile
from pathlib import Path
from intertitle.pipeline.precompute.isolation.confinement import confine

folder, FILM, SECRET, PORT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
tempfile.tempdir = folder
number = {{"x86_64": 200, "aarch64": 130}}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)

def tkill(thread):
    if libc.syscall(number, thread, 0):
        raise OSError(ctypes.get_errno(), "tkill")

os.chdir(folder)
gaps, said = confine([Path(FILM)], [Path(folder)]), {{}}
for name, attack in {ATTACKS!r}.items():
    try:
        said[name] = eval(attack)
    except OSError as error:
        said[name] = type(error).__name__
print(json.dumps([gaps, said], default=str))
"""


def test_a_decoder_has_no_secret_no_network_and_no_file_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("of the user")
    for name in SECRETS:
        monkeypatch.setenv(name, "not-for-decoders")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = [sys.executable, "-c", CONFINED, tmp_path / "own", FILM, secret]
        ended = subprocess.run(
            [*map(str, program), str(server.getsockname()[1])],
            env=bare_environment(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )
    gaps, said = json.loads(ended.stdout)
    assert "not-for-decoders" not in ended.stdout and "of the user" not in ended.stdout
    assert not {*said["environment"]} & {*SECRETS}
    if gaps:
        pytest.skip(f"this kernel does not keep decoders from: {gaps}")
    refused = {name for name, told in said.items() if told == "PermissionError"}
    allowed = {"environment", "its first environment", "its own limits"}
    allowed |= {"its own file", "a temporary file"}
    assert refused == {*ATTACKS} - allowed
    assert said["its own file"] == FILM.stat().st_size and said["a temporary file"] == 4
    assert secret.read_text() == "of the user"


# Runs inside a request, where the file of an item is hashed.
REQUEST = """
import hashlib, json, os, socket

def report(*_):
    said = {"environment": sorted(os.environ)}
    attacks = {
        "file": lambda: open(SECRET).read(),
        "first environment": lambda: open("/proc/self/environ").read(),
        "network": lambda: socket.socket(),
        "own folder": lambda: open(os.environ["TMPDIR"] + "/a", "w").close(),
    }
    for name, attack in attacks.items():
        try:
            said[name] = attack()
        except OSError as error:
            said[name] = type(error).__name__
    raise ValueError(json.dumps(said))

hashlib.file_digest = report
"""


@pytest.mark.usefixtures("fresh_sandbox")
def test_the_process_that_decodes_is_confined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the user")
    for name in SECRETS:
        monkeypatch.setenv(name, "not-for-decoders")
    (tmp_path / "sitecustomize.py").write_text(f"SECRET = {str(secret)!r}\n{REQUEST}")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    item, _ = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "internal"
    said = json.loads(item.rejection.message.partition("ValueError: ")[2])
    assert not {*said["environment"]} & {*SECRETS}
    assert "not-for-decoders" not in said["first environment"]
    assert said["own folder"] is None
    try:
        py_landlock.get_abi_version()
    except py_landlock.LandlockError:
        pytest.skip("this kernel has no Landlock")
    if confinement.pyseccomp is None:
        pytest.skip("libseccomp is not installed")
    assert said["file"] == said["network"] == "PermissionError"


@pytest.mark.parametrize("error", [py_landlock.LandlockError("not there"), OSError("not there")])
def test_what_a_machine_cannot_enforce_is_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(py_landlock, "create_ruleset", fail)
    monkeypatch.setattr(confinement, "pyseccomp", None)
    landlock, seccomp = confinement.confine([FILM], [tmp_path])
    assert landlock == "other files (Landlock: not there)"
    assert seccomp == "the network and other processes (libseccomp is not installed)"
