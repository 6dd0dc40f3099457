"""Models kept on this machine under a name: fetched once, checked whenever they are used, no network needed then."""

from __future__ import annotations

import difflib
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from hespotex.encoders.cache import cache_folder
from hespotex.errors import HESpotExError, ModelFileError, shorten
from hespotex.models.bundle import read_model
from hespotex.models.trial import check_predicts
from hespotex.progress import Progress, Reporter, heard
from hespotex.public.download import Remote, ask_text, download, file_checksum
from hespotex.public.hub import at_the_hub, check_access, hub_download, stated_checksum
from hespotex.public.names import (
    ENDING,
    SPELLINGS,
    HubName,
    WebName,
    default_name,
    is_name,
    is_path,
    remote_name,
)
from hespotex.storage.atomic import atomic_path, check_writable
from hespotex.storage.disk_room import check_room
from hespotex.storage.schema import JsonFile

_RECORD: Final = ".json"
_ELSEWHERE: Final = "or set HESPOTEX_CACHE to a folder on another disk"


class KeptModel(JsonFile):
    """What is known of one kept model: NAME.json beside NAME.hespotex."""

    holds: ClassVar[str] = "the record of a kept model"
    remedy: ClassVar[str] = "fetch or add the model again"

    name: str
    """As it is used."""
    source: str
    """The address that it came from, or the name of the file."""
    sha256: str
    """Of the file, in hexadecimal."""
    size: int
    """Of the file, in bytes."""
    revision: str | None = None
    """Commit of the repository that it came from."""
    checked_against: str = "nothing"
    """Whose checksum the fetched file was compared with."""
    since: str = ""
    """Day on which it came."""


def model_folder() -> Path:
    """The folder of the kept models, in the cache."""
    return cache_folder() / "models"


def kept_models() -> list[KeptModel]:
    """Every kept model, by name; damaged records are left out."""
    found = []
    folder = model_folder()
    for path in sorted(folder.glob(f"*{_RECORD}")) if folder.is_dir() else []:
        try:
            record = KeptModel.read(path)
        except HESpotExError:
            continue
        if _file(record.name).is_file():
            found.append(record)
    return found


def local_model(model: str | Path, reporter: Reporter | None = None) -> Path:
    """The file of a model, however it is named; one that is not here yet is fetched.

    A kept model is compared with its checksum first.

    Args:
        model: a path, NAME, `hf://org/repo[@revision][/file]`, or `https://...`.

    Raises:
        ModelFileError: no model has this name, or the kept file was changed.
        DownloadError: it cannot be fetched.
    """
    text = str(model)
    source = None if isinstance(model, Path) and model.exists() else remote_name(_repaired(text))
    if source is None:
        if is_path(model):
            return Path(model)
        return _checked(_find(text))
    known = [m for m in kept_models() if m.source == _spelled(source)]
    if known:
        if isinstance(source, WebName):
            _refuse_other_bytes(known[0], source)
        return _checked(known[0])
    return _file(fetch_model(_repaired(text), progress=reporter).name)


def fetch_model(source: str, *, name: str | None = None, progress: Progress = None) -> KeptModel:
    """Fetch a model, or fetch it anew, and keep it.

    Args:
        source: `hf://org/repo[@revision][/file]` or `https://...[#sha256=...]`.
        name: to keep it under; None: the file's or the repository's.

    Raises:
        ModelFileError: it is no model, or another one has the name.
        DownloadError: it cannot be fetched, or is not the file that a checksum names.
    """
    remote, reporter = remote_name(_repaired(source)), heard(progress)
    if remote is None:
        raise ModelFileError(
            expected="hf://org/repo[@revision][/file] or https://...",
            found=f"{source!r}",
            remedy="`hespotex models add` takes a file of this machine",
        )
    name = _legal_name(name or default_name(remote))
    spelled = _spelled(remote)
    _refuse_taken(name, spelled)
    check_writable(model_folder(), "set HESPOTEX_CACHE to one")
    with _partial(name, spelled) as folder:
        if isinstance(remote, HubName):
            path, revision, against = _from_hub(remote, folder, spelled, reporter)
        else:
            path, revision, against = _from_web(remote, folder, reporter)
        return _keep(path, name, spelled, revision, against, move=True)


def add_model(path: Path, *, name: str | None = None) -> KeptModel:
    """Keep a copy of a model file of this machine under a name.

    Raises:
        ModelFileError: it is no model, or another one has the name.
    """
    name = _legal_name(name or path.name.removesuffix(ENDING))
    read_model(path)
    _refuse_taken(name, path.name, file_checksum(path, "sha256").partition(":")[2])
    check_writable(model_folder(), "set HESPOTEX_CACHE to one")
    return _keep(path, name, path.name, None, "nothing", move=False)


def _file(name: str) -> Path:
    return model_folder() / f"{name}{ENDING}"


def _find(name: str) -> KeptModel:
    every = kept_models()
    for model in every:
        if model.name == name:
            return model
    _refuse_vanished(name)
    names = [m.name for m in every]
    near = difflib.get_close_matches(name, names, n=3)
    where = f"no model is kept yet in {model_folder()}"
    known = f"kept are {shorten(near or names)}" if names else where
    raise ModelFileError(
        expected=SPELLINGS,
        found=f"{name!r}",
        remedy=f"{known}: `hespotex models` lists them, `hespotex models fetch` gets more",
    )


def _refuse_other_bytes(model: KeptModel, source: WebName) -> None:
    """A checksum that the user states counts for what is kept from that address, too."""
    if source.sha256 not in (None, model.sha256):
        raise ModelFileError(
            expected=f"sha256 {source.sha256} of {source.url}",
            found=f"{model.sha256} of the kept model {model.name}, which came from there",
            remedy=f"`hespotex models fetch '{source.url}#sha256={source.sha256}' --name {model.name}` fetches it anew",
        )


def _refuse_vanished(name: str) -> None:
    """A record whose file somebody deleted says where the model came from."""
    record = _file(name).with_suffix(_RECORD)
    if is_name(name) and record.is_file():
        raise _not_as_it_came(KeptModel.read(record), "nothing")


def _checked(model: KeptModel) -> Path:
    path = _file(model.name)
    if file_checksum(path, "sha256") != f"sha256:{model.sha256}":
        raise _not_as_it_came(model, "other bytes")
    return path


def _not_as_it_came(model: KeptModel, found: str) -> ModelFileError:
    again = f"fetch {model.source}" if remote_name(model.source) else f"add {model.source}"
    return ModelFileError(
        expected=f"the kept model {model.name} as it came",
        found=f"{found} in {_file(model.name)}",
        remedy=f"`hespotex models {again} --name {model.name}` brings it again",
    )


def _legal_name(name: str) -> str:
    if not is_name(name) or name == "auto":
        raise ModelFileError(
            expected="a name of letters, digits, `_`, `.` and `-`, not ending in .hespotex, and not auto",
            found=f"{name!r}",
            remedy="give another --name",
        )
    return name


def _refuse_taken(name: str, source: str, sha256: str | None = None) -> None:
    """Refuse a name that another model has: of another source, or a file of other bytes."""
    for model in kept_models():
        if model.name != name:
            continue
        if model.source != source or sha256 not in (None, model.sha256):
            raise ModelFileError(
                expected=f"no other model of the name {name}",
                found=f"one from {model.source} ({model.sha256[:12]})",
                remedy=f"give another --name, or delete {_file(name)} first",
            )


def _keep(
    path: Path, name: str, source: str, revision: str | None, against: str, *, move: bool
) -> KeptModel:
    check_predicts(path, read_model(path))
    record = KeptModel(
        name=name,
        source=source,
        sha256=file_checksum(path, "sha256").partition(":")[2],
        size=path.stat().st_size,
        revision=revision,
        checked_against=against,
        since=datetime.now(UTC).date().isoformat(),
    )
    if not move:
        check_room(model_folder(), record.size, remedy=_ELSEWHERE)
    with atomic_path(_file(name)) as temporary:
        if move:
            path.replace(temporary)
        else:
            shutil.copyfile(path, temporary)
    record.write(_file(name).with_suffix(_RECORD))
    return record


@contextmanager
def _partial(name: str, source: str) -> Iterator[Path]:
    """A folder for what is being fetched from there; it stays after a break, so that the next try goes on."""
    of_source = hashlib.sha256(source.encode()).hexdigest()[:12]
    folder = model_folder() / f".{name}.{of_source}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for left_over in model_folder().glob(f".{name}.{'[0-9a-f]' * 12}.partial"):
        shutil.rmtree(left_over, ignore_errors=True)


def _from_web(remote: WebName, folder: Path, reporter: Reporter) -> tuple[Path, str | None, str]:
    """A file behind an address; its checksum from the address, else from the file beside it."""
    stated, against = remote.sha256, "the address"
    if stated is None:
        beside = (ask_text(f"{remote.url}.sha256") or "").split()
        if beside and len(beside[0]) == 64:
            stated, against = beside[0].lower(), f"{remote.file}.sha256 beside it"
    if stated is None:
        against = "nothing"
        reporter.warn(
            f"{remote.url} comes without a checksum: compare the sha256 of `hespotex models` with its publisher's"
        )
    wanted = Remote(remote.url, "fetched.hespotex", checksum=stated and f"sha256:{stated}")
    return download([wanted], folder, reporter)[0], None, against


def _from_hub(
    remote: HubName, folder: Path, spelled: str, reporter: Reporter
) -> tuple[Path, str | None, str]:
    """A file of the hub, with the user's login, from HF_ENDPOINT where it is set."""
    page = f"https://huggingface.co/{remote.repository}"
    with at_the_hub(f"the model {spelled}", ModelFileError, page=page):
        from huggingface_hub import HfApi, constants

        api = HfApi(endpoint=constants.ENDPOINT)
        found = api.model_info(remote.repository, revision=remote.revision, files_metadata=True)
        check_access(remote.repository, "model")
    files, commit = list(found.siblings or ()), str(found.sha)
    name = _model_file(remote, [s.rfilename for s in files], spelled)
    stated = [s for s in files if s.rfilename == name]
    (path,) = hub_download(remote.repository, stated, folder, reporter, kind="model", commit=commit)
    return path, commit, "the hub's record" if stated_checksum(stated[0]) else "nothing"


def _model_file(remote: HubName, files: list[str], spelled: str) -> str:
    models = [file for file in files if file.endswith(ENDING)]
    if remote.file is not None and remote.file in files:
        return remote.file
    if remote.file is None and len(models) == 1:
        return models[0]
    raise ModelFileError(
        expected=f"{remote.file or 'one model file'} in {spelled}",
        found=shorten(models) if models else "no file that ends in .hespotex",
        remedy="name one behind the repository: hf://org/repo/file.hespotex" if models else "",
    )


def _spelled(source: HubName | WebName) -> str:
    if isinstance(source, WebName):
        return source.url
    at = f"@{source.revision}" if source.revision else ""
    return f"hf://{source.repository}{at}{f'/{source.file}' if source.file else ''}"


def _repaired(text: str) -> str:
    """An address that went through `Path`, which makes one slash of two."""
    for scheme in ("hf:", "https:", "http:"):
        if text.startswith(f"{scheme}/") and not text.startswith(f"{scheme}//"):
            return f"{scheme}//{text.removeprefix(f'{scheme}/')}"
    return text
