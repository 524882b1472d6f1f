"""A stand-in of the Hugging Face hub: the part of its HTTP interface by which a model repository is made and written to."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_standin0123456789"


class Hub:
    """``repositories``: (private, files by name) by id; ``asked``: every request; ``fails``: a number by the path it stands for."""

    def __init__(self):
        self.repositories, self.objects, self.asked, self.fails = {}, {}, [], {}

    def answer(self, method, path, body):
        """A number and what is said, as plain values."""
        self.asked.append((method, path))
        for part, number in self.fails.items():
            if part in path:
                return number, {"error": "as the test wants it"}
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "orgs": []}
        if path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            return (
                (200, {"errors": [], "warnings": []})
                if isinstance(front, dict)
                else (400, {"errors": [{"message": "no table"}]})
            )
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            self.repositories[name] = (asked["visibility"] == "private", {})
            return 200, {"url": f"{self.address}/{name}"}
        if path.startswith("/lfs/"):
            self.objects[path.removeprefix("/lfs/")] = body
            return 200, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [
                {**one, "actions": {"upload": {"href": f"{self.address}/lfs/{one['oid']}"}}} for one in json.loads(body)["objects"]
            ]}  # fmt: skip
        name, _, doing = path.removeprefix("/api/models/").partition("/preupload/") if "/preupload/" in path else (
            path.removeprefix("/api/models/").partition("/commit/")
        )  # fmt: skip
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        private, files = self.repositories[name]
        if not doing:
            return 200, {"id": name, "private": private, "siblings": [{"rfilename": file} for file in files]}
        if "/preupload/" in path:
            return 200, {"files": [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]}  # fmt: skip
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
                assert hashlib.sha256(self.objects[value["oid"]]).hexdigest() == value["oid"]
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40}


@contextlib.contextmanager
def standing_in():
    """A hub on a port of its own; its ``address`` is what ``HF_ENDPOINT`` names."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}" or path.startswith("/lfs/")
            number, said = hub.answer(self.command, path, body) if known else (401, {"error": "Invalid credentials"})
            sent = json.dumps(said).encode()
            self.send_response(number)
            if number == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            if number == 401:
                self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
