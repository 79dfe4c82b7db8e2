"""A package index on this machine, for front ends that take no folder of wheels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def write_index(folder: Path, wheelhouses: Iterable[Path]) -> None:
    """Write PEP 503's folders for all wheels: listed by a web server, they are an index."""
    for wheelhouse in wheelhouses:
        for wheel in wheelhouse.glob("*.whl"):
            name = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / wheel.name).symlink_to(wheel)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1, and yield its address."""
    handler = partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
