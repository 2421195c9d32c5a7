"""Opening by PyAV reads the file of a name, and no address."""

import http.server
import threading

import pytest

from data_pipelines.pyav import opened


@pytest.fixture
def server():
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch, server):
    address, requests = server
    monkeypatch.chdir(tmp_path)
    name = f"{address}/a.mp4"
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be decoded \(No such file"), opened(name):
        pass
    assert requests == []
