"""The server: what it answers is what maps hold, and whoever is not its own page gets nothing."""

import http.client
import json
import struct
import threading
import time
import urllib.parse

import numpy as np
import pytest

import regard
from regard import masks
from regard.errors import ConfigError
from regard.exploring import server
from regard.exploring.atlas import Atlas
from regard.exploring.views import view_of

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def dense():
    return weights().dense()[0]


def weights(length=300):
    random = np.random.default_rng(3)
    query, key = (random.normal(size=(1, 2, length, 8)).astype(np.float32) for _ in range(2))
    return regard.attention(query, key, key, mask=masks.causal()).weights


@pytest.fixture(scope="module")
def running():
    served = server.Server(Atlas([view_of(weights(), [HOSTILE, *map(str, range(299))], title=HOSTILE)]))
    yield served
    served.close()


def asked(running, path, body=None, host=None, **headers):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Host"] = host or f"127.0.0.1:{running.port}"
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def frames(content):
    while content:
        length, head = struct.unpack("<II", content[:8])
        facts = json.loads(content[8 : 8 + head])
        at, arrays = 8 + head, {}
        for name, *shape in facts["arrays"]:
            size = 4 * int(np.prod(shape))
            arrays[name] = np.frombuffer(content[at : at + size], "<f4").reshape(shape)
            at += size
        assert at == 4 + length
        yield facts, arrays
        content = content[4 + length :]


def question(running, what, **body):
    status, _, content = asked(running, f"/{running.token}/ask/{what}", json.dumps(body))
    assert status == 200
    return list(frames(content))


def test_tiles_come_in_the_order_that_they_are_asked_for(running, dense):
    tiles = [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    found = question(running, "tiles", map="0.0.1", reduce="max", tiles=tiles)
    assert [facts["number"] for facts, _ in found] == [0, 1, 2]
    np.testing.assert_allclose(np.nan_to_num(found[0][1]["values"]), dense[1, 256:300, :256], atol=1e-6)
    assert np.isnan(found[2][1]["values"][0, 1:]).all()
    assert found[1][1]["values"].shape == (150, 150)


def test_what_else_is_asked(running, dense):
    [(facts, arrays)] = question(running, "heads", heads=[[0, 0, 0]])
    assert facts["head"] == [0, 0, 0]
    assert {"entropy", "distance", "first"} <= facts["numbers"].keys()
    assert arrays["mean"].shape == (38, 38)
    [(_, tracks)] = question(running, "tracks", map="0.0.0")
    np.testing.assert_allclose(tracks["received"], dense[0].sum(0), atol=1e-4)
    [(_, profile)] = question(running, "profile", map="0.0.0", axis="query", at=7)
    np.testing.assert_allclose(profile["values"][:8], dense[0, 7, :8], atol=1e-6)
    [(cell, _)] = question(running, "cell", map="0.0.0", query=7, key=3)
    rank = int((dense[0, 7] > dense[0, 7, 3]).sum()) + 1
    assert (cell["rank"], cell["of"]) == (rank, 8)
    [(places, _)] = question(running, "strongest", map="0.0.0", count=3, band=2)
    assert {"queries", "keys", "count", "total"} <= places["places"][0].keys()
    assert [dense[0, each["query"], each["key"]] for each in places["places"]] == sorted(
        [pytest.approx(each["weight"], abs=1e-6) for each in places["places"]],
        reverse=True,
        key=lambda each: each.expected,
    )


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("tiles", {"map": "9.9.9", "reduce": "mean", "tiles": [[0, 0, 0, 0]]}),
        ("tiles", {"map": "0.0.0", "reduce": "median", "tiles": [[0, 0, 0, 0]]}),
        ("tiles", {"map": "0.0.0", "reduce": "mean", "tiles": [[0, 0, 0, 0]] * 513}),
        ("tiles", {"map": "0.0.0", "reduce": "mean", "tiles": [[0, 99, 0, 0]]}),
        ("tiles", {"map": "0.0.0", "reduce": "mean", "tiles": [["a", {}, None, 0.5]]}),
        ("tiles", {"map": "0.0.0"}),
        ("tiles", {"map": "0.0.0", "reduce": "mean", "tiles": 7}),
        ("profile", {"map": "0.0.0", "axis": "query", "at": 300}),
        ("profile", {"map": "0.0.0", "axis": "query", "at": True}),
        ("shares", {"map": "0.0.0", "band": "none"}),
        ("nothing", {}),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(running, what, body):
    [(facts, _)] = question(running, what, **body)
    assert facts["error"].startswith("explore: need ")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 60000, b'"' + b"a" * (1 << 16) + b'"'])
def test_what_is_no_question_is_refused(running, body):
    assert asked(running, f"/{running.token}/ask/tiles", body)[0] == 400


NOWHERE = [
    "/",
    "/about",
    "/{token}",
    "/{wrong}/",
    "/{wrong}/about",
    "/{token}/page/../server.py",
    "/{token}/page/..%2fserver.py",
    "/{token}/page/nothing.js",
    "/{token}/docs",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_nothing_is_told_without_the_secret_or_beside_the_page(running, path):
    status, _headers, content = asked(running, path.format(token=running.token, wrong="x" * len(running.token)))
    assert status in (404, 307)
    assert HOSTILE.encode() not in content
    assert "tok" not in content.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "elsewhere.example"},
        {"host": "127.0.0.1"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_gets_nothing(running, headers):
    for path, body in ((f"/{running.token}/about", None), (f"/{running.token}/ask/tiles", "{}")):
        status, found, content = asked(running, path, body, **headers)
        assert (status, content) == (403, b"not for you")
        assert "Access-Control-Allow-Origin" not in found


@pytest.mark.parametrize(("spoken", "expected"), [("en", None), ("zh", "zh"), ("fr", None)])
def test_a_language_that_was_asked_for_is_the_pages(running, monkeypatch, spoken, expected):
    """English may be nobody's wish: there the browser's own decides."""
    monkeypatch.setenv("REGARD_LANGUAGE", spoken)
    _, _, content = asked(running, f"/{running.token}/about")
    assert json.loads(content).get("language") == expected


def test_its_own_page_is_answered(running):
    own = f"http://127.0.0.1:{running.port}"
    status, headers, content = asked(running, f"/{running.token}/about", Origin=own, Sec_Fetch_Site="same-origin")
    assert status == 200
    assert json.loads(content)["views"][0]["axes"][0]["labels"][0] == HOSTILE
    assert headers["content-type"] == "application/json"


def test_every_answer_has_a_strict_policy(running):
    for path in ("/", "/about", "/page/app.js", "/page/leaflet.js", "/page/style.css", "/page/none.css"):
        _, headers, _ = asked(running, f"/{running.token}{path}")
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_server_listens_on_the_loopback_only(running):
    assert running._socket.getsockname()[0] == "127.0.0.1"
    assert urllib.parse.urlparse(running.address).hostname == "127.0.0.1"
    assert len(running.token) >= 32
    with server.bound(0) as first, pytest.raises(ConfigError, match=r"^--port: need a port that is free; got \d+ "):
        server.bound(first.getsockname()[1])


def test_who_goes_away_stops_what_is_computed(running, monkeypatch):
    began, ended = threading.Event(), threading.Event()

    def slow(atlas, what, body, stopped):
        began.set()
        for _ in range(2000):
            if stopped():
                ended.set()
                return
            time.sleep(0.005)
        yield b""

    monkeypatch.setattr(server, "answered", slow)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("POST", f"/{running.token}/ask/tiles", "{}", {"Host": f"127.0.0.1:{running.port}"})
    assert began.wait(5)
    connection.sock.close()
    connection.close()
    assert ended.wait(5)


def test_closing_ends_it_at_once():
    served = server.Server(Atlas([view_of(weights(20))]))
    assert asked(served, f"/{served.token}/")[0] == 200
    start = time.perf_counter()
    served.close()
    assert time.perf_counter() - start < 2
    with pytest.raises(OSError, match="refused"):
        asked(served, f"/{served.token}/")
