"""dbt that is already imported: a server that forks for each command, for what runs dbt again and again.

    with warm_dbt() as dbt:  # a resource like `resources.dbt.dbt_resource()`
        ...

Importing dbt takes two seconds and more, and most of this project's builds take less. dagster-dbt starts dbt as a
process; here that process is a few lines which hand arguments, environment and standard output to the server and end
with the status of the child that it forked. The server ends with the process that started it, however that one ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from resources.dbt import DbtCli

SOCKET = "dbt.socket"
MOST_BYTES = 1 << 20
READY = b"ready"


@contextmanager
def warm_dbt() -> Generator[DbtCli]:
    """Start a server and give the resource that uses it; the server ends with the context. Raises RuntimeError where
    dbt cannot be imported or cannot parse the project.
    """
    from resources.dbt import dbt_project, dbt_resource

    dbt_project()  # parsed before the server starts, which hands its children what it has read then

    root = Path(__file__).resolve().parents[1]  # as a module: the folder of this file would hide the package dbt
    with tempfile.TemporaryDirectory(prefix="shelfwise-dbt-") as folder:
        command = [sys.executable, "-m", "resources.dbt_server", "serve", folder]
        server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            if server.stdout.readline().strip() != READY:
                raise RuntimeError("dbt's server did not start; what it said stands above")
            # Without site-packages: the few lines of `ask` need none, and Python starts three times as fast.
            yield dbt_resource("-I", "-S", __file__, "ask", folder)
        finally:
            server.stdin.close()
            server.wait()


def ask(folder: str, argv: list[str]) -> int:
    """Have the server run dbt with these arguments, this process's environment and output; return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{folder}/{SOCKET}")
        said = json.dumps({"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
        socket.send_fds(connection, [len(said).to_bytes(4, "big")], [1, 2])
        connection.sendall(said)
        status = connection.recv(8)
    return int(status) if status else 2  # the child died without a word


def serve(folder: str) -> None:
    """Run commands, each in a child of its own, until standard input ends."""
    import dbt.adapters.duckdb.impl
    import dbt.cli.main
    import dbt.task.build  # noqa: F401

    import shelfwise.duckdb_functions  # noqa: F401

    starter = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    manifest = _warmed_up(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no trace
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{SOCKET}")
        listener.listen()
        os.write(starter, READY + b"\n")
        os.close(starter)
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection, manifest)
            connection.close()


def _warmed_up(folder: str) -> Manifest | None:
    """Run a command that changes nothing, as dbt makes a good deal of itself when it is needed first, and return the
    parsed project; None, and nothing is run, where there is none that this version of dbt has written.

    A server that parses itself would have the threads of dbt's parser, and a child that is forked from it and parses
    again waits for threads that it does not have, forever.
    """
    from resources.dbt_run import PARSED, parsed, run

    project, manifest = str(PARSED.parents[1]), parsed(PARSED)
    if manifest is None:
        return None
    variables = json.dumps(dict.fromkeys(("lake", "output", "database", "project"), folder))
    folders = ["--project-dir", project, "--profiles-dir", project, "--target-path", folder, "--log-path", folder]
    run(["list", *folders, "--vars", variables], manifest)
    manifest = parsed(PARSED)  # as it was: a run leaves its marks
    if manifest is not None:
        manifest.writable_manifest()
    return manifest


def _answer(connection: socket.socket, manifest: Manifest | None) -> None:
    """In a child: run one command as if this process had been started for it, and end."""
    from resources.dbt_run import run

    status = 2
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, files, _, _ = socket.recv_fds(connection, 4, 2)
        said, length = b"", int.from_bytes(head, "big")
        while len(said) < length:
            said += connection.recv(min(MOST_BYTES, length - len(said)))
        asked = json.loads(said)
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
            os.close(file)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        status = run(asked["argv"], manifest)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(status).encode())
        os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
