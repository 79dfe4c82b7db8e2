"""A fleet: machines that share nothing but a Redis server, in which sccache keeps what they compile."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import BROUGHT

from .workshop import real_cargo, run

_FOLDER = BROUGHT / "fleet"


def program(name: str) -> str:
    """Return the path of a program that bring-fleet brings; skip the test where it is not to be had."""
    found = shutil.which(name, path=f"{_FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not here: scripts/maintain/bring-fleet brings it")
    return found


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis server on loopback, and give its address."""
    port = _free_port()
    command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()


@dataclass(frozen=True)
class Taken:
    """What sccache could cache of a machine's work: *hits* were there, *misses* were compiled."""

    hits: int
    misses: int


@contextmanager
def machine(folder: Path, address: str) -> Iterator[Mapping[str, str]]:
    """Give the variables of a machine that has nothing in *folder* yet; its sccache runs until the end."""
    home = Path(real_cargo()).parent.parent
    found = {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "CARGO_HOME": os.environ.get("CARGO_HOME", str(home)),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(home.parent / ".rustup")),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "UV_CACHE_DIR": str(folder / "uv"),
        "PYO3_ENVSHIM_CACHE_DIR": str(folder / "store"),
        "SCCACHE_REDIS_ENDPOINT": address,
        "SCCACHE_SERVER_PORT": str(_free_port()),
        "SCCACHE_CONF": str(folder / "none"),
    }
    (folder / "tmp").mkdir(parents=True)
    # It makes a socket in its temporary folder, whose path must be short (108 characters on Linux).
    with tempfile.TemporaryDirectory(prefix="fleet-", dir="/tmp") as short:
        run([program("sccache"), "--start-server"], os.environ | found | {"TMPDIR": short})
        try:
            yield found
        finally:
            run([program("sccache"), "--stop-server"], os.environ | found)


def taken(variables: Mapping[str, str]) -> Taken:
    """Return what a machine has taken from the others, and what it has compiled, since it was asked last."""
    sccache = [program("sccache"), "--show-stats", "--stats-format=json"]
    stats = json.loads(run(sccache, os.environ | variables))["stats"]
    run([program("sccache"), "--zero-stats"], os.environ | variables)
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return Taken(hits, misses)
