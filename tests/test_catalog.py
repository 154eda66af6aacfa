"""The catalogue: every entry is whole, files are found in order and checked, and nothing is downloaded unasked."""

from __future__ import annotations

import hashlib
import os
import re

import pytest

from sim import catalog, registry
from sim.errors import InputError
from sim.trace_loading import load_trace
from sim.trace_options import check_options

SHARED = os.environ.get("MEMHIER_TRACE_PATH")


@pytest.fixture
def own_catalogue(tmp_path, monkeypatch):
    """A catalogue of one trace in an otherwise empty world; returns (folder, write) to put its file anywhere."""
    data = b"id,size\n1,10\n2,10\n1,10\n"
    listed = tmp_path / "workloads"
    (listed / "traces").mkdir(parents=True)
    common = f"{{description: d, licence: l, bytes: {len(data)}, origin: o, sha256: {hashlib.sha256(data).hexdigest()}"
    (listed / "catalog.yaml").write_text(
        f"traces:\n  tiny: {common}, filename: tiny.csv, url: 'http://127.0.0.1:9/tiny.csv', reader: csv}}\n"
        f"  nowhere: {common}, filename: none.csv, reader: csv, note: Made by hand.}}\n"
        f"  inside: {common}, file: inside.csv, reader: csv}}\n"
    )
    monkeypatch.setattr(catalog, "_workloads", lambda: listed)
    monkeypatch.setenv("MEMHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEMHIER_TRACE_PATH", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))

    def write(place, content=data):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def test_entries_are_whole():
    for name, entry in catalog.entries().items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.bytes > 0
        assert entry.url or entry.file or entry.note
        if entry.url:
            assert entry.url.startswith("https://")
        if entry.reader is None:
            assert entry.note
            continue
        reader = registry.load(registry.READER, entry.reader)
        check_options(reader.options, entry.options, entry.name)


@pytest.mark.parametrize("name", sorted(catalog.entries()))
def test_files_at_hand_are_what_the_catalogue_says(name):
    path = catalog.find(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine (set MEMHIER_TRACE_PATH to a folder that has it)")
    assert path.stat().st_size == catalog.entry(name).bytes


def test_search_order(own_catalogue):
    assert catalog.find("tiny") is None
    for place in ("cache/tiny.csv", "b/tiny.csv", "a/tiny.csv"):
        path = own_catalogue(place)
        assert catalog.find("tiny") == path
    assert catalog.get("tiny") == path
    trace = load_trace("tiny")
    assert (trace.name, trace.n_requests, trace.n_blocks) == ("tiny", 3, 2)


def test_bundled_files(own_catalogue):
    assert catalog.find("inside") is None
    path = own_catalogue("workloads/traces/inside.csv")
    assert catalog.find("inside") == path
    assert load_trace("inside").n_requests == 3


def test_a_wrong_file_is_refused(own_catalogue):
    own_catalogue("a/tiny.csv", b"id\n1\n")
    with pytest.raises(InputError, match="sha256"):
        catalog.find("tiny")


def test_loading_never_downloads(own_catalogue):
    with pytest.raises(InputError, match=r"run_sim\.py traces get tiny"):
        load_trace("tiny")


def test_no_network_is_one_clear_error(own_catalogue):
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/tiny\.csv.*tiny\.csv.*MEMHIER_TRACE_PATH"):
        catalog.get("tiny")
    with pytest.raises(InputError, match=r"none\.csv.*MEMHIER_TRACE_PATH.*Made by hand"):
        catalog.get("nowhere")


def test_download_is_checked_and_reported(own_catalogue, tmp_path, monkeypatch):
    import functools
    import http.server
    import threading

    served = own_catalogue("served/tiny.csv")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        listed = tmp_path / "workloads" / "catalog.yaml"
        listed.write_text(listed.read_text().replace(":9/", f":{server.server_port}/"))
        seen = []
        path = catalog.get("tiny", progress=lambda done, total: seen.append((done, total)))
        assert path.read_bytes() == served.read_bytes()
        assert seen[-1] == (23, 23)
        assert catalog.find("tiny") == path
        path.unlink()
        served.write_bytes(b"something else")
        with pytest.raises(InputError, match="not the catalogue's"):
            catalog.get("tiny")
        assert catalog.find("tiny") is None
    finally:
        server.shutdown()
        server.server_close()


def test_unknown_name():
    with pytest.raises(InputError, match="did you mean 'mooncake_conversation'"):
        catalog.find("mooncake_conversations")


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a: 1",
        "traces: [1]",
        "traces: {a: 1}",
        "traces: {a: {sha: 1}}",
        "traces: {a: {description: d}}",
        "traces: {a: {url: u, file: f}}",
    ],
)
def test_bad_catalogue(text, tmp_path, monkeypatch):
    (tmp_path / "catalog.yaml").write_text(text)
    monkeypatch.setattr(catalog, "_workloads", lambda: tmp_path)
    with pytest.raises(InputError, match=r"catalog\.yaml"):
        catalog.entries()
