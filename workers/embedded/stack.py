"""The embedded stack as one object: start, look, break, stop.

with EmbeddedStack(Path(".data")) as stack: stack.kill("worker") # kill -9; it is started again
stack.wait_ready("worker") print(stack.api_url)

`DATABASE_URL` and `TEMPORAL_ADDRESS`, when set, replace the embedded servers. Everything else lives in the
data folder: a second start on it continues what the first one had begun.
"""

import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from contracts.names import SearchAttribute
from db.session import make_engine
from workers.embedded import ports, services, state
from workers.embedded.postgres import EmbeddedPostgres, check_answers, last_report, run_migrations
from workers.embedded.process import (
    Child,
    ServiceSpec,
    StackCancelledError,
    StackError,
    end_leftover,
    python,
    run_to_end,
)
from workers.embedded.services import StackOptions
from workers.embedded.supervisor import Supervisor
from workers.embedded.temporal import attribute_type, temporal_binary, temporal_spec

SERVICES = ("postgres", "temporal", "wechat", "station", "codec", "worker", "gateway", "api", "client")
_LAST = ("temporal", "postgres")
_STATION_PATIENCE_S = 20


class EmbeddedStack:
    """The processes of one data folder, supervised. Not started before `start()` or `with`."""

    def __init__(
        self,
        folder: Path,
        *,
        only: Collection[str] = SERVICES,
        options: StackOptions | None = None,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _line: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take what `start()` will need.

        `only` starts a subset; `environment` defaults to the process's own; `say` gets the progress lines;
        `cancelled` is asked while it starts, True ends the start with StackCancelledError.
        """
        self.folder = folder.resolve()
        self.options = options or StackOptions()
        self.ports: dict[str, int] = {}
        self.env: dict[str, str] = {}
        self._environment = dict(os.environ if environment is None else environment)
        self._only = self._checked(only)
        self._say = say
        self._lock: state.FolderLock | None = None
        self._cancelled = cancelled
        self._supervisor = Supervisor(self.folder / "logs", say, self._write_record, cancelled)

    def _checked(self, only: Collection[str]) -> frozenset[str]:
        unknown = set(only) - set(SERVICES)
        if unknown:
            raise StackError(f"no such services: {', '.join(sorted(unknown))}")
        replaced = {
            name
            for name, variable in (("postgres", "DATABASE_URL"), ("temporal", "TEMPORAL_ADDRESS"))
            if self._environment.get(variable)
        }
        return frozenset(only) - replaced

    # --- what a caller asks

    @property
    def api_url(self) -> str:
        """The base address of the API and of the console."""
        return services.url(self.ports["api"])

    @property
    def ui_url(self) -> str:
        """Temporal's Web UI."""
        return self.env["JIAZHU_TEMPORAL_UI_URL"]

    @property
    def wechat_url(self) -> str:
        """The WeChat sandbox; its admin interface is below `/_sandbox`."""
        return services.url(self.ports["wechat"])

    @property
    def station_url(self) -> str:
        """The control interface of the dispenser simulator."""
        return services.url(self.ports["station"])

    @property
    def database_url(self) -> str:
        """The database, embedded or given."""
        return self.env["DATABASE_URL"]

    @property
    def temporal_address(self) -> str:
        """Temporal's frontend, embedded or given."""
        return self.env["TEMPORAL_ADDRESS"]

    def names(self) -> tuple[str, ...]:
        """The services that this stack supervises."""
        return self._supervisor.names()

    def pid(self, name: str) -> int | None:
        """The process id of a service."""
        return self._supervisor.child(name).pid

    def restarts(self, name: str) -> int:
        """How often a service was started again."""
        return self._supervisor.child(name).starts - 1

    def child(self, name: str) -> Child:
        """A service's process: its log, its ready line."""
        return self._supervisor.child(name)

    def kill(self, name: str) -> int:
        """kill -9 of a service's process; the supervisor starts it again. Returns the pid that was killed."""
        return self._supervisor.kill(name)

    def wait_ready(self, name: str, timeout_s: float = 60.0) -> None:
        """Wait until a service serves (again). Raises StackError with the end of its log."""
        self._supervisor.wait_ready(name, timeout_s)

    def stop_service(self, name: str) -> None:
        """End one service in order and keep it ended: a station offline, a cloud without workers."""
        self._supervisor.stop(name)

    def start_service(self, name: str) -> None:
        """Start a service that was ended; returns when it serves."""
        self._supervisor.start_again(name)
        self._supervisor.wait_ready(name)

    # --- start and stop

    def __enter__(self) -> Self:
        """Start everything."""
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop everything, whatever happened."""
        self.stop()

    def start(self) -> None:
        """Start and wait until everything serves. Raises StackError; nothing is left running then."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"the data folder {self.folder}: {error.strerror} (JIAZHU_DATA names another)"
            ) from error
        lock = state.FolderLock(self.folder)
        lock.acquire()
        self._lock = lock
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        if self._cancelled():
            raise StackCancelledError("the stack was asked to end")
        self._end_leftovers()
        self._choose_ports()
        database = self._start_servers()
        self._prepare_database(database)
        if "station" in self._only:
            self._supervisor.start(services.station_spec(self.folder, self.ports, self.options))
        for spec in services.own_specs(self.ports, self.env, self.options):
            if spec.name.partition("-")[0] in self._only:
                self._supervisor.start(spec)
        self._wait_for_all()
        if "client" in self._only:
            self._start_station()
        self._supervisor.watch()
        self._write_record()

    def _wait_for_all(self) -> None:
        for name in self._supervisor.names():
            self._supervisor.wait_ready(name)
            self._say(f"· {name} serves")

    def _start_station(self) -> None:
        """Start the station's client once its gateway listens, and wait until the platform has heard from it.

        Before that nothing can be sold there. Without the parts that could tell, it is only started.
        """
        begun = datetime.now(tz=UTC)
        self._supervisor.start(services.client_spec(self.folder, self.ports, self.env))
        self._supervisor.wait_ready("client")
        heard = "gateway" not in self._only
        deadline = time.monotonic() + _STATION_PATIENCE_S
        engine = make_engine(self.env["DATABASE_URL"], pool_size=1)
        while not heard and time.monotonic() < deadline and not self._cancelled():
            time.sleep(0.1)
            heard = last_report(engine) >= begun
        engine.dispose()
        self._say("· client serves" if heard else "! the station has not reported yet: see logs/client.log")

    def _end_leftovers(self) -> None:
        """A supervisor that was killed with -9 may have left children (where the kernel does not end them)."""
        for name, entry in state.read_record(self.folder).get("processes", {}).items():
            if end_leftover(int(entry["pid"]), str(entry["birth"])):
                self._say(f"· ended {name} (pid {entry['pid']}), left over from an earlier start")

    def _choose_ports(self) -> None:
        earlier = state.read_record(self.folder).get("ports", {})
        wishes = services.PORTS
        if self.options.free_ports:
            taken: set[int] = set()
            for wish in wishes:
                port = earlier.get(wish.name) or ports.any_free(taken, udp=wish.udp)
                self.ports[wish.name] = port
                taken.add(port)
        else:
            self.ports, remarks = ports.choose(wishes, self._environment, earlier)
            for remark in remarks:
                self._say(f"! {remark}")
        computed = {
            **services.base_environment(self.ports, self.folder),
            **state.load_secrets(self.folder),
        }
        given = {name: value for name, value in self._environment.items() if name in computed and value}
        self.env = {**computed, **given}
        if self.options.free_ports:
            self.env |= {name: value for name, value in computed.items() if name.endswith("_PORT")}

    def _start_servers(self) -> EmbeddedPostgres | None:
        """PostgreSQL, Temporal and the WeChat sandbox at the same time; they do not need each other."""
        database = None
        if "postgres" in self._only:
            database = EmbeddedPostgres(self.folder / "postgres")
            self._say(
                "· PostgreSQL starts" + (" (a first start makes the cluster)" if database.is_new else "")
            )
            self.env["DATABASE_URL"] = database.url()
            self._supervisor.start(database.spec())
        elif self._environment.get("DATABASE_URL"):
            self.env["DATABASE_URL"] = self._environment["DATABASE_URL"]
            self._say("· DATABASE_URL is set: using that PostgreSQL")
        if "temporal" in self._only:
            self._say("· Temporal starts")
            self._supervisor.start(self._temporal_spec())
        elif self._environment.get("TEMPORAL_ADDRESS"):
            self._say(f"· TEMPORAL_ADDRESS is set: using Temporal at {self.temporal_address}")
            self._register_attributes()
        if "wechat" in self._only:
            self._supervisor.start(services.wechat_spec(self.folder, self.ports, self.options.seed))
        for name in self._supervisor.names():
            self._supervisor.wait_ready(name)
        if "wechat" in self._only:
            channel = services.channel_environment(self.folder / "wechat" / "keys")
            self.env |= {name: self._environment.get(name) or value for name, value in channel.items()}
        return database

    def _temporal_spec(self) -> Any:
        return temporal_spec(
            self.folder / "temporal",
            port=self.ports["temporal"],
            ui_port=self.ports["temporal_ui"],
            http_port=self.ports["temporal_http"],
            metrics_port=self.ports["temporal_metrics"],
            codec_url=services.url(self.ports["codec"]) if "codec" in self._only else None,
        )

    def _register_attributes(self) -> None:
        """On a server of somebody else, which may have them already."""
        place = ["--address", self.temporal_address, "--namespace", self.env["TEMPORAL_NAMESPACE"]]
        for attribute in SearchAttribute:
            what = ["--name", attribute.value, "--type", attribute_type(attribute)]
            command = [temporal_binary(), "operator", "search-attribute", "create", *place, *what]
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=30, check=False, start_new_session=True
            )
            if result.returncode != 0 and "already exists" not in result.stderr + result.stdout:
                raise StackError(f"Temporal at {self.temporal_address}: {result.stderr.strip()[-500:]}")

    def _prepare_database(self, database: EmbeddedPostgres | None) -> None:
        """Newest schema, then the demo station; both may run again."""
        if database is None and "DATABASE_URL" not in self.env:
            return
        if database is not None:
            database.ensure_database()
        else:
            check_answers(self.env["DATABASE_URL"])
        if not self.options.migrate:
            return
        self._say("· migrations")
        run_migrations(self.env["DATABASE_URL"], extra_env=self.env, cancelled=self._cancelled)
        self._say("· the demo station")
        seed = ServiceSpec(name="the demo station", command=python("db.seed"), env=self.env)
        run_to_end(seed, cancelled=self._cancelled)

    def _write_record(self) -> None:
        if self._lock is None:
            return
        births = self._supervisor.births()
        processes = {name: {"pid": pid, "birth": birth} for name, (pid, birth) in births.items()}
        # A start that is refused before it chose ports leaves those of the start before.
        chosen = self.ports or state.read_record(self.folder).get("ports", {})
        record = {"supervisor": os.getpid(), "ports": chosen, "processes": processes}
        state.write_record(self.folder, record)

    def stop(self) -> None:
        """End every process and give the folder back; may be called twice."""
        if self._lock is None:
            return
        self._supervisor.stop_all(last=_LAST)
        self._write_record()
        self._lock.release()
        self._lock = None
