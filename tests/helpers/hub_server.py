"""The server of a test as the Hugging Face hub, in the shape of its answers: models, data, and what is pushed to it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from huggingface_hub import constants

from helpers.web_server import Web

Answer = tuple[int, dict[str, str], bytes]


def as_hub(web: Web, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Web:
    """Let the hub's client of this process, and of those that it starts, speak with the server."""
    template = f"{web.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in (
        ("ENDPOINT", web.address),
        ("HUGGINGFACE_CO_URL_TEMPLATE", template),
        ("HF_HUB_DISABLE_XET", True),
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_CACHE", str(cache)),
    ):
        monkeypatch.setattr(constants, name, value)
    for name, text in (("HF_ENDPOINT", web.address), ("HF_HUB_DISABLE_XET", "1"),
                       ("HF_HUB_OFFLINE", "0"), ("HF_HUB_CACHE", str(cache))):  # fmt: skip
        monkeypatch.setenv(name, text)
    web.routes["HEAD", ""] = web.routes["HEAD", "/"] = lambda _: (200, {}, b"")
    return web


def answer(value: object, status: int = 200) -> Answer:
    """JSON."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def refusing(status: int, code: str = "", message: str = "") -> Callable[[bytes], Answer]:
    """An answer of the hub that refuses, with its own code and words."""
    headers = {"X-Error-Code": code, "X-Error-Message": message} if code or message else {}
    return lambda _: (status, headers, json.dumps({"error": message}).encode())


def git_blob(content: bytes) -> str:
    """The name that git gives a content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def hub_to_push_to(web: Web, repository: str, *, commit: str = "b" * 40) -> dict[str, bytes]:
    """Let the server take what is pushed to a repository.

    Returns:
        The repository's files: empty until a commit is whole.
    """
    files: dict[str, bytes] = {}
    api, uploaded = f"/api/models/{repository}", {}

    def batch(body: bytes) -> Answer:
        objects = json.loads(body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": web.url("/upload"), "header": {}}}
        return answer({"transfer": "basic", "objects": objects})

    def put(body: bytes) -> Answer:
        uploaded[hashlib.sha256(body).hexdigest()] = body
        return 200, {}, b""

    def preupload(body: bytes) -> Answer:
        asked = [f["path"] for f in json.loads(body)["files"]]
        modes = {True: "lfs", False: "regular"}
        return answer({"files": [
            {"path": path, "shouldIgnore": False, "uploadMode": modes[path.endswith(".hespotex")]} for path in asked
        ]})  # fmt: skip

    def commit_all(body: bytes) -> Answer:
        sent = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                sent[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in uploaded:  # as the hub, which compares what came
                    return answer({"error": "the uploaded file is another one"}, 422)
                sent[value["path"]] = uploaded[value["oid"]]
        files.update(sent)
        url = web.url(f"/{repository}/commit/{commit}")
        return answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    web.routes |= {
        ("POST", "/api/repos/create"): lambda _: answer({"url": web.url(f"/{repository}"), "id": "1"}),
        ("POST", "/api/validate-yaml"): lambda _: answer({"errors": [], "warnings": []}),
        ("GET", f"{api}/revision/main"): lambda _: answer({"id": repository, "sha": "0" * 40, "siblings": []}),
        ("POST", f"{api}/preupload/main"): preupload,
        ("POST", f"/{repository}.git/info/lfs/objects/batch"): batch,
        ("PUT", "/upload"): put,
        ("POST", f"{api}/commit/main"): commit_all,
    }  # fmt: skip
    return files


def hub_repository(
    web: Web, repository: str, files: dict[str, bytes], *, commit: str = "a" * 40
) -> None:
    """Let the server speak as the hub does of one repository of models."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": git_blob(content),
            "lfs": {"sha256": hashes[name], "size": len(content), "pointerSize": 130},
        }
        for name, content in files.items()
    ]
    told = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings,
            "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}  # fmt: skip
    answer = (200, {"Content-Type": "application/json"}, json.dumps(told).encode())
    for revision in ("", "/revision/main", f"/revision/{commit}"):
        web.routes["GET", f"/api/models/{repository}{revision}"] = lambda _, a=answer: a
    for name, content in files.items():
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashes[name]}"', "X-Linked-ETag": f'"{hashes[name]}"',
                   "X-Linked-Size": str(len(content)), "Accept-Ranges": "bytes"}  # fmt: skip
        for revision in ("main", commit):
            path = f"/{repository}/resolve/{revision}/{name}"
            web.routes["HEAD", path] = lambda _, h=headers, c=content: (200, h, c)
            web.files[path] = content


def hub_data_set(
    web: Web, repository: str, files: dict[str, bytes], *, commit: str = "c" * 40
) -> None:
    """Let the server speak as the hub does of one repository of data."""
    siblings = [{"rfilename": name} for name in files]
    told = {"id": repository, "sha": commit, "siblings": siblings, "private": False, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": []}  # fmt: skip
    infos = [
        {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": git_blob(content),
        }
        for name, content in files.items()
    ]
    as_json = {"Content-Type": "application/json"}

    def paths_info(body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked = (
            parse_qs(body.decode()).get("paths", [])
            if not body.startswith(b"{")
            else json.loads(body)["paths"]
        )
        return 200, as_json, json.dumps([i for i in infos if i["path"] in asked]).encode()

    web.routes["GET", f"/api/datasets/{repository}"] = lambda _: (
        200,
        as_json,
        json.dumps(told).encode(),
    )
    web.routes["POST", f"/api/datasets/{repository}/paths-info/{commit}"] = paths_info
    for name, content in files.items():
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        headers = {"X-Repo-Commit": commit, "ETag": tag, "Accept-Ranges": "bytes"}
        path = f"/datasets/{repository}/resolve/{commit}/{name}"
        web.routes["HEAD", path] = lambda _, h=headers, c=content: (200, h, c)
        web.files[path] = content
