"""MLflow behind one door: where its database or server is, opening it, and errors as messages that say what to do."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import uuid
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from shelfwise.artifacts import atomic_write_bytes, is_local
from shelfwise.registry.versions import RegistryError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTING = "SHELFWISE_REGISTRY"
DATABASE = "mlflow.db"
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")
HEADER = b"SQLite format 3\0"
# DO_NOT_TRACK=1 does not stop MLflow's telemetry: it asks for "true". A server that does not answer is given up after
# (1 + retries) times the timeout, and not after the half hour of MLflow's own settings.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
ABOUT = """This folder holds Shelfwise's model registry: versions of models, and which one is in production.

{name} is an MLflow database (`mlflow ui --backend-store-uri {uri}` shows it, where MLflow is installed).
`python -m shelfwise.registry --root {root} list` lists the versions, `history` says what happened, `rollback` puts the
previous champion back. Include {name} in backups. To begin anew, delete this file and {name} together.
"""


class Missing(RegistryError):
    """MLflow knows no model, version or alias of this name."""


def redacted(text: str) -> str:
    """Return a text without the user and password that a URI in it holds."""
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)  # up to the last @: a password may hold any other sign
    return re.sub(r"(?i)([?&](?:password|token|user|secret)=)[^&\s'\")]+", r"\1***", text)


class Client:
    """The MLflow client of a registry. A SQLite database is made, whole, by the first that writes."""

    def __init__(self, root: UPath, uri: str = "") -> None:
        self.root = root
        self.uri = _checked(uri) if uri else _default(root)
        self.database = Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:") else None
        self.shown = redacted(self.uri)

    @property
    def takes_local_sources(self) -> bool:
        """Whether a version's source may be a path of this machine's disk: a server refuses those."""
        return not self.uri.startswith("http")

    def exists(self) -> bool:
        """Whether there is anything to ask. Raises RegistryError where the database was deleted by hand."""
        if self.database is None or self.database.exists():
            return True
        if self._about.exists():
            raise RegistryError(f"the model registry's database {self.database} was deleted. {self._remedy}")
        return False

    def create(self) -> None:
        """Make the database where there is none yet; the caller holds the registry's lock."""
        if self.database is None:
            return
        if not self.exists():
            try:
                _create(self.database, _empty_database())
            except OSError as error:
                reason = f"the model registry's database {self.database} cannot be made ({error.strerror})"
                raise RegistryError(f"{reason}: check the folder's owner and rights") from None
        if not self._about.exists():
            text = ABOUT.format(name=self.database.name, uri=self.uri, root=self.root)
            atomic_write_bytes(self._about, text.encode())

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of MlflowClient. Raises Missing or RegistryError, with a message that says what to do."""
        if self.database is not None:
            _check_once(self.database, self._remedy, *_identity(self.database))
        try:
            return getattr(_client(self.uri), name)(*arguments, **named)
        except Exception as error:
            failure = self._explained(error)
            if failure is None:
                raise
        # Raised here and not above: what MLflow said, and a password in it, is no part of this error.
        raise failure

    @property
    def _about(self) -> Path:
        assert self.database is not None
        return self.database.with_name(f"{self.database.name}.README.txt")

    @property
    def _remedy(self) -> str:
        return (
            f"Put back a copy of {self.database}; or, to begin anew, delete {self._about} with what is left of the "
            "database and materialize matching/champion: versions count from 1 again, the models in the lake stay"
        )

    def _explained(self, error: Exception) -> RegistryError | None:
        """What an error of MLflow means here; None for one that is no failure of the registry."""
        import sqlalchemy.exc
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException | sqlalchemy.exc.SQLAlchemyError | OSError):
            return None
        said = redacted(" ".join(str(error).split()))[:500]
        code = getattr(error, "error_code", "")
        if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return Missing(said)
        if self.database is None:
            return RegistryError(self._of_a_server(said, code))
        if "locked" in said:
            return RegistryError(
                f"another program has kept the model registry's database {self.database} locked: end it, and run again"
            )
        if "readonly" in said or "unable to open" in said:
            return RegistryError(
                f"the model registry's database {self.database} cannot be written: check its owner, rights and disk"
            )
        if any(sign in said for sign in ("malformed", "not a database", "no such table", "disk I/O")):
            return RegistryError(f"the model registry's database {self.database} is damaged. {self._remedy}")
        return RegistryError(f"the model registry {self.database}: {said}")

    def _of_a_server(self, said: str, code: str) -> str:
        refused = code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
        if refused or re.search(r"\b40[13]\b", said):
            return (
                f"the model registry at {self.shown} refuses access: set MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN ({said})"
            )
        if code in ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"):
            return f"the model registry at {self.shown} refuses this: {said}"
        return (
            f"the model registry at {self.shown} does not answer as it should: check that it runs and that {SETTING} "
            f"is right, then run again; a change that was cut short is finished or undone by the next ({said})"
        )


def _checked(uri: str) -> str:
    scheme = uri.split("://", 1)[0] if "://" in uri else uri
    if scheme.split("+", 1)[0] not in SCHEMES:
        raise RegistryError(
            f"{SETTING} is {redacted(uri)!r}: it should be a server (https://...), a database (postgresql://...) or "
            "sqlite:////absolute/path/mlflow.db"
        )
    if scheme == "sqlite":
        path = uri.removeprefix("sqlite:///")
        if not path.startswith("/") or "?" in path:
            raise RegistryError(
                f"{SETTING} is {uri!r}: the path must be absolute and without '?', as in sqlite:////data/mlflow.db, "
                "because steps of a run start in folders of their own"
            )
    return uri.rstrip("/")


def _default(root: UPath) -> str:
    if not is_local(root):
        raise RegistryError(
            f"a lake on {root.protocol}:// needs a model registry of its own: set {SETTING} to an MLflow server "
            "(https://...), a database (postgresql://...) or sqlite:////absolute/path/mlflow.db"
        )
    return _checked(f"sqlite:///{Path(str(root)).absolute()}/{DATABASE}")


def _create(path: Path, data: bytes) -> None:
    """Write a file whole, unless one has come to be there: another lake's process may use the same database."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    atomic_write_bytes(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink(missing_ok=True)


def _identity(database: Path) -> tuple[int, int]:
    try:
        stat = database.stat()
    except OSError:
        return 0, 0
    return stat.st_dev, stat.st_ino


@lru_cache(maxsize=32)
def _check_once(database: Path, remedy: str, device: int, inode: int) -> None:
    """Look through a database before MLflow does, which takes a hundred seconds to give up a bad one."""
    trouble = ""
    try:
        with database.open("rb") as handle:
            if handle.read(len(HEADER)) != HEADER:
                trouble = "no SQLite database"
        if not trouble:
            connection = sqlite3.connect(database, timeout=20)
            try:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'model_versions'")
                trouble = verdict if verdict != "ok" else "" if found.fetchone()[0] else "MLflow's tables are missing"
            finally:
                connection.close()
    except sqlite3.OperationalError as error:
        raise RegistryError(f"the model registry's database {database} cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        trouble = str(error)
    except OSError as error:
        reason = f"the model registry's database {database} cannot be read ({error.strerror})"
        raise RegistryError(f"{reason}: check its owner and rights") from None
    if trouble:
        raise RegistryError(f"the model registry's database {database} is damaged ({trouble}). {remedy}")


@lru_cache(maxsize=32)
def _client(uri: str) -> MlflowClient:
    """Return MLflow's client. The import is a second, so it waits until somebody asks."""
    _prepare()
    if uri.startswith("sqlite:"):
        # No connection outlives its question: a process may fork, and a database may be put back by hand.
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def preload() -> None:
    """Import MLflow and its stores: two seconds that a process need not spend whose parent did this."""
    _prepare()
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def _prepare() -> None:
    """Set what MLflow reads when it is imported; what the environment says already stands."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("mlflow")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)  # what it reports is raised too


@lru_cache(maxsize=1)
def _empty_database() -> bytes:
    """Return a database with MLflow's tables and nothing in them; its migrations take a second or two."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        _client(f"sqlite:///{path}").search_registered_models(max_results=1)
        return path.read_bytes()
