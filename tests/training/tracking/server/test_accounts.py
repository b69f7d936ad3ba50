"""Settings that a server refuses, and the account for jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.server.auth.config import AuthConfig, read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.server.accounts import (
    ACCOUNT,
    ACCOUNT_PASSWORD,
    ADMIN_PASSWORD,
    ALLOWED_HOSTS,
    SECRET_KEY,
    check_settings,
    create_job_account,
)

CONFIG = Path(__file__).parents[4] / "infra" / "basic_auth.ini"
ADMIN, JOBS = "correct-horse-battery", "what-jobs-log-in-with"
SAFE = {
    ADMIN_PASSWORD: ADMIN,
    ACCOUNT: "jobs",
    ACCOUNT_PASSWORD: JOBS,
    SECRET_KEY: "forms",
    ALLOWED_HOSTS: "tracking:5000,localhost:5000",
}


@pytest.fixture
def users(tmp_path: Path) -> SqlAlchemyStore:
    """MLflow's table of users, which is empty."""
    users = SqlAlchemyStore()
    users.init_db(f"sqlite:///{tmp_path}/users.db")
    return users


def config(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> AuthConfig:
    """What MLflow reads from the file of `infra/` and an environment."""
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(CONFIG))
    monkeypatch.delenv(ADMIN_PASSWORD, raising=False)
    if ADMIN_PASSWORD in environment:
        monkeypatch.setenv(ADMIN_PASSWORD, environment[ADMIN_PASSWORD])
    return read_auth_config()


def test_safe_settings_pass_and_there_may_be_no_account_for_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_settings(config(monkeypatch, SAFE), SAFE)
    without = {name: SAFE[name] for name in (ADMIN_PASSWORD, SECRET_KEY, ALLOWED_HOSTS)}
    check_settings(config(monkeypatch, without), without)


@pytest.mark.parametrize("password", [None, "", "short", "password", "Password1234"])
def test_a_weak_password_of_the_admin_is_refused(
    monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    settings = SAFE | {ADMIN_PASSWORD: password} if password is not None else dict(SAFE)
    if password is None:
        del settings[ADMIN_PASSWORD]
    with pytest.raises(UserError, match=f"{ADMIN_PASSWORD}: .* allowed: 12 characters"):
        check_settings(config(monkeypatch, settings), settings)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({ACCOUNT: "admin"}, f"{ACCOUNT}: 'admin', allowed: a name of an account for jobs alone"),
        ({ACCOUNT_PASSWORD: ADMIN}, f"{ACCOUNT_PASSWORD}: that of admin"),
        ({ACCOUNT_PASSWORD: "short"}, f"{ACCOUNT_PASSWORD}: too short"),
        ({ACCOUNT_PASSWORD: ""}, f"{ACCOUNT_PASSWORD}: not set"),
        ({SECRET_KEY: ""}, f"{SECRET_KEY}: not set"),
        ({ALLOWED_HOSTS: ""}, "--allowed-hosts: '', allowed: the names by which"),
        ({ALLOWED_HOSTS: "tracking, *"}, r"--allowed-hosts: 'tracking,\*', allowed: the names"),
    ],
)
def test_an_unsafe_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], complaint: str
) -> None:
    settings = SAFE | change
    with pytest.raises(UserError, match=complaint):
        check_settings(config(monkeypatch, settings), settings)


def test_the_account_for_jobs_has_no_admin_rights_and_its_password_follows(
    users: SqlAlchemyStore,
) -> None:
    create_job_account(users, {})
    assert users.list_users() == []
    for password in (JOBS, JOBS, "another-password"):
        create_job_account(users, SAFE | {ACCOUNT_PASSWORD: password})
        assert users.authenticate_user("jobs", password)
    assert not users.authenticate_user("jobs", JOBS)
    assert [(user.username, user.is_admin) for user in users.list_users()] == [("jobs", False)]


def test_an_admin_does_not_become_the_account_for_jobs(users: SqlAlchemyStore) -> None:
    users.create_user("jobs", ADMIN, is_admin=True)
    with pytest.raises(UserError, match=f"{ACCOUNT}: 'jobs' is an admin, allowed: an account"):
        create_job_account(users, SAFE)
    assert users.authenticate_user("jobs", ADMIN)
