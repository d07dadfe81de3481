"""A model hub of one's own: keeps what is pushed in a folder. `python hub.py FOLDER` prints its address and serves."""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_of_the_tests"


class Hub(BaseHTTPRequestHandler):
    folder = Path()
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, values, status=200):
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _address(self):
        return f"http://{self.headers['Host']}"

    def do_GET(self):
        self._answer({"error": "not here"}, 404)

    def do_POST(self):
        body = self._body()
        if self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "unauthorized"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            (self.folder / "created.json").write_text(json.dumps({**asked, "full": name}))
            self._answer({"url": f"{self._address()}/{name}", "name": name})
        elif "/preupload/" in self.path:
            files = [each["path"] for each in json.loads(body)["files"]]
            told = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": told})
        elif "/commit/" in self.path:
            self._commit(body)
        else:
            self._answer({"error": "not here"}, 404)

    def _commit(self, body):
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                path = self.folder / "repo" / entry["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(entry["value"]["content"]))
        name = self.path.removeprefix("/api/models/").split("/commit/")[0]
        told = {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self._address()}/{name}/commit/0"}
        self._answer(told)


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
