"""`intertitle submit` and `intertitle jobs`, on a cluster that `ray start` starts."""

from __future__ import annotations

import json
import secrets
import shlex
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from intertitle.jobs.cluster.session import RAY_SYSTEM_CONFIG
from intertitle.jobs.cluster.submission import describe, send
from intertitle.pipeline.errors import UserError
from intertitle.training.tracking import environment
from tests.jobs.program import Person, ray_head, somebody

PASSWORD = "not-a-secret-but-taken-for-one"


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with a cluster that `ray start` started."""
    with somebody(tmp_path_factory.mktemp("person")) as someone:
        config = f"--system-config={json.dumps(RAY_SYSTEM_CONFIG)}"
        with ray_head(someone, config, MLFLOW_TRACKING_PASSWORD=PASSWORD) as (head, job_server):
            yield Person(
                someone.home,
                someone.folder,
                {"RAY_API_SERVER_ADDRESS": job_server, "HEAD": head},
            )


@pytest.fixture(scope="module")
def text(person: Person) -> Path:
    """What `import text` reads, in the folder that this somebody is in."""
    folder = person.folder / "text"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}.txt").write_text("the cat sat on the mat and went away\n" * 200)
    return folder


def last_json(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_a_job_runs_this_project_here_and_submit_ends_as_it_ends(person: Person) -> None:
    # What lies in the folder is not taken for the project.
    for shadow in ("intertitle", "jobs"):
        (person.folder / shadow).mkdir()
        (person.folder / shadow / "__init__.py").write_text("raise SystemExit(99)")
    code = (
        "import os, intertitle; print(os.getcwd()); print(intertitle.__file__); raise SystemExit(7)"
    )
    ended = person.run("submit", "--", "python", "-P", "-c", code)
    assert ended.returncode == 7
    *_, folder, packed = ended.stdout.splitlines()
    assert folder == str(person.folder)
    assert "working_dir_files" in packed and packed.endswith("/intertitle/__init__.py")
    assert ended.stderr.splitlines()[-1].endswith(": failed with exit code 7")


# One that asks more often than others expect is hung up on, and its task has failed.
ASKED_EVERY = """
import ray
from ray._raylet import Config
from intertitle.jobs.cluster.session import cluster

def asked():
    return Config.grpc_client_keepalive_time_ms()

with cluster(None):
    print(asked(), ray.get(ray.remote(asked).remote()))
"""


def test_all_processes_agree_on_when_a_silent_call_is_dead(person: Person) -> None:
    ended = person.run("submit", "--", "python", "-P", "-c", ASKED_EVERY)
    assert ended.returncode == 0, ended.stderr
    patience = str(RAY_SYSTEM_CONFIG["grpc_client_keepalive_time_ms"])
    assert ended.stdout.splitlines()[-1].split() == [patience, patience]


def test_the_same_submission_is_the_same_job(person: Person, text: Path) -> None:
    command = ("intertitle", "import", "text", text.name, "--out", "once", "--json")
    first = person.run("submit", "--slot", "2026-11-23T02:00+01:00", "--", *command)
    assert first.returncode == 0, first.stdout
    assert last_json(first.stdout)["examples"] == 400
    made = (person.folder / "once" / "items.parquet").stat()

    again = person.run("submit", "--slot", "2026-11-23T02:00+01:00", "--json", "--", *command)
    assert again.returncode == 0
    *log, result = again.stdout.splitlines()
    assert log == first.stdout.splitlines()
    assert json.loads(result) | {"job": None} == {
        "job": None,
        "name": json.loads(result)["job"],
        "status": "SUCCEEDED",
        "exit_code": 0,
    }
    assert ": there already, succeeded" in again.stderr
    assert (person.folder / "once" / "items.parquet").stat().st_mtime_ns == made.st_mtime_ns


def test_a_driver_that_is_killed_goes_on_in_another_attempt(person: Person) -> None:
    code = "[ -e begun ] && echo goes on && exit; touch begun; echo begins; kill -9 $$"
    ended = person.run("submit", "--json", "--", "sh", "-c", code)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert "begins" in lines and "goes on" in lines
    name = last_json(ended.stdout)["name"]
    assert f"job {name}: failed with exit code 137; restarted" in ended.stderr
    listed = last_json(person.run("jobs", "list", "--json").stdout)["jobs"]
    assert [job for job in listed if job["job"].startswith(name)] == [
        {"job": f"{name}-2", "status": "SUCCEEDED", "exit_code": 0},
        {"job": name, "status": "FAILED", "exit_code": -9},
    ]


def test_a_job_is_stopped_as_sigterm_does_and_shows_no_secret(person: Person) -> None:
    code = "trap 'echo told; exit' TERM; echo on; while :; do sleep 0.1; done"
    begun = person.run("submit", "--no-wait", "--json", "--", "sh", "-c", code)
    assert begun.returncode == 0
    job = last_json(begun.stdout)["job"]
    follower = person.start("submit", "--", "sh", "-c", code)
    assert follower.stdout is not None
    while "on\n" not in (line := follower.stdout.readline()):
        assert line

    hidden = (person.token, PASSWORD)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert not any(word in " ".join(process.cmdline()) for word in hidden)
    listed = person.run("jobs", "list")
    assert [job, "running"] in [line.split()[:2] for line in listed.stdout.splitlines()]
    stopped = person.run("jobs", "stop", job)
    assert (stopped.returncode, stopped.stdout) == (0, f"job {job}: stopped\n")
    _, err = follower.communicate(timeout=300)
    assert follower.returncode == 143 and f"job {job}: stopped" in err
    log = person.run("jobs", "logs", job).stdout
    assert "told\n" in log
    for text in (listed.stdout, log, err):
        assert not any(word in text for word in hidden)
    for file in person.home.glob("ray/**/*.*"):
        if file.is_file():
            assert not any(word.encode() in file.read_bytes() for word in hidden), file


@pytest.mark.parametrize(
    "environment",
    [
        {"RAY_AUTH_TOKEN": "wrong"},
        {"RAY_AUTH_TOKEN_PATH": "wrong"},
        # A token in the environment comes before a file's.
        {"RAY_AUTH_TOKEN": "wrong", "RAY_AUTH_TOKEN_PATH": "right"},
    ],
)
def test_a_wrong_token_is_refused(person: Person, environment: dict[str, str]) -> None:
    (person.folder / "wrong").write_text(secrets.token_hex(32))
    (person.folder / "right").write_text(person.token)
    ended = person.run("submit", "--", "true", **environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert ": refuses this token, allowed: the cluster's, in RAY_AUTH_TOKEN, " in line
    assert "wrong" not in line.replace("wrong token", "") and person.token not in line


def test_no_part_of_the_cluster_is_open_to_who_has_no_token(person: Person, text: Path) -> None:
    url = person.environment["RAY_API_SERVER_ADDRESS"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/api/jobs/")
    assert refused.value.code == 401
    head = person.environment["HEAD"]
    assert person.run("import", "text", text, "--out", "corpus").returncode == 0
    ended = person.run(
        *("precompute", "corpus", "--out", "store", "--address", head), RAY_AUTH_TOKEN="wrong"
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"intertitle: address: '{head}': refuses this token")


def test_a_connection_that_is_cut_loses_no_line_and_doubles_none(person: Person) -> None:
    numbered = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.5; done"
    host, port = person.environment["RAY_API_SERVER_ADDRESS"].removeprefix("http://").split(":")
    with cut_wire((host, int(port)), after=b"line 3") as address:
        ended = person.run("submit", "--address", address, "--", "sh", "-c", numbered)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(1, 9)]


@contextmanager
def cut_wire(upstream: tuple[str, int], after: bytes) -> Iterator[str]:
    """Pass connections on; the one that passes some bytes is cut there, and two seconds none is
    taken. Fails when nothing was cut."""
    server = socket.create_server(("127.0.0.1", 0))
    dead_until: list[float] = []

    def pump(source: socket.socket, sink: socket.socket, other: socket.socket | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                if other is not None and after in data and not dead_until:
                    dead_until.append(time.monotonic() + 2)
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                if dead_until and time.monotonic() < dead_until[0]:
                    near.close()
                    continue
                far = socket.create_connection(upstream)
                for one, two, cuts in ((near, far, None), (far, near, near)):
                    threading.Thread(target=pump, args=(one, two, cuts), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.close()
    assert dead_until


@pytest.mark.chaos
def test_a_training_whose_driver_is_killed_goes_on_as_the_same_run(
    person: Person, text: Path
) -> None:
    assert person.run("import", "text", text, "--out", "text-corpus").returncode == 0
    tiny = ("model.hidden_size=8", "model.embedding_size=8", "training.epochs=30")
    training = (
        *("intertitle", "train", "char_lm", "--corpus", "text-corpus", "--name", "tiny"),
        *(f"--set={setting}" for setting in tiny),
        "--json",
    )
    process = person.start("submit", "--", *training)
    deadline = time.monotonic() + 240
    while not any(person.folder.glob("checkpoints/*/checkpoint_*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    for driver in psutil.process_iter():
        with suppress(psutil.Error):
            if driver.cmdline()[1:6] == ["-P", "-m", "intertitle.jobs", "train", "char_lm"]:
                driver.kill()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert "failed with exit code 137; restarted" in err
    begun = [line for line in out.splitlines() if line.startswith("run tiny (")]
    assert len(begun) == 2 and len(set(begun)) == 1
    assert last_json(out)["run_id"] in begun[0]


def test_a_name_follows_what_decides_on_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recipe = tmp_path / "a recipe.toml"
    recipe.write_text("[model]\nhidden_size = 1\n")
    command = ["intertitle", "train", "a recipe.toml", "--corpus", "it's here"]

    def name(*, slot: str = "", of: list[str] = command) -> str:
        return describe(of, slot).name

    names = [name(), name(slot="monday"), name(of=[*command, "--workers", "2"])]
    recipe.write_text("[model]\nhidden_size = 2\n")
    names.append(name())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    names.append(name())
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert len(set(names)) == len(names) and name() == names[-1]
    assert all(each.startswith("train-a-recipe-") for each in names)

    sent = describe(command)
    assert sent.environment["MLFLOW_TRACKING_URI"] == "http://tracking:5000"
    assert PASSWORD not in sent.environment.values()
    # Ray's page shows the beginning.
    assert sent.entrypoint.startswith(f": {sent.name}; ")
    # The recipe is found where it was packed, every other word is as it was.
    (place,) = sent.files
    words = shlex.split(sent.entrypoint.partition("exec ")[2])
    assert words == [
        "python",
        "-P",
        "-m",
        "intertitle.jobs",
        "train",
        f"$PACKED/{place}",
        *command[3:],
    ]
    assert sent.files[place].read_bytes() == recipe.read_bytes()


@pytest.mark.parametrize(
    ("command", "slot", "told"),
    [
        (["true"], "next monday", "--slot: 'next monday', allowed: letters, "),
        (["curl", "http://me:secret@host/"], "", "COMMAND: a URL with a password, allowed: "),
        (["env", f"P={PASSWORD}", "true"], "", "COMMAND: the value of MLFLOW_TRACKING_PASSWORD "),
    ],
)
def test_what_may_not_be_sent_is_told_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, command: list[str], slot: str, told: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    # The session's object store has a secret that this one holds.
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(UserError) as error:
        describe(command, slot)
    assert str(error.value).startswith(told)
    assert "secret@" not in str(error.value) and PASSWORD not in str(error.value)


def test_what_merely_lies_in_the_folders_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "training"
    for name in ("__init__.py", "recipes/a.toml", "loop.py", "data/__init__.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    for name in (".env", "recipes/.env", "keys.toml", "data/key.pem", "loop.py.orig", "data/a.npy"):
        (package / name).write_text("secret")
    (package / "link.py").symlink_to(tmp_path)
    monkeypatch.setattr(environment, "PACKAGES", {"intertitle.training": ("recipes/*.toml",)})
    spec = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr(environment, "find_spec", lambda _: spec)
    sent: list[str] = []

    class Client:
        def submit_job(self, runtime_env: dict[str, str], **_: object) -> None:
            folder = Path(runtime_env["working_dir"])
            sent.extend(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())

    send(Client(), describe(["true"]), "job")  # type: ignore[arg-type]
    assert sorted(sent) == [
        f"intertitle/training/{name}"
        for name in ("__init__.py", "data/__init__.py", "loop.py", "recipes/a.toml")
    ]
