"""Models by name: fetched once from the web or a hub, checked at every use, published without counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.commands import command, refusal
from helpers.hub_server import as_hub, hub_repository, hub_to_push_to, refusing
from helpers.stored_model import MODEL
from helpers.web_server import Web, serving
from hespotex.errors import ConfigError, DownloadError, HESpotExError, ModelFileError
from hespotex.models.bundle import read_model, write_model
from hespotex.public.download import file_checksum
from hespotex.public.kept_models import (
    add_model,
    fetch_model,
    kept_models,
    local_model,
    model_folder,
)
from hespotex.public.names import HubName, WebName, remote_name
from hespotex.public.push import Licences, prepare, push

CONTENT = MODEL.read_bytes()
SHA256 = file_checksum(MODEL, "sha256").partition(":")[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        web.files["/tiny.hespotex"] = CONTENT
        yield web


@pytest.fixture
def hub(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The same server as the hub of huggingface_hub, which is a client of its own."""
    hub_repository(web, "lab/bulb", {"tiny.hespotex": CONTENT, "README.md": b"# card\n"})
    return as_hub(web, monkeypatch, tmp_path / "hub")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("hf://lab/bulb", HubName("lab/bulb")),
        ("hf://lab/bulb@v1.2", HubName("lab/bulb", "v1.2")),
        ("hf://lab/bulb@v1/sub/a.hespotex", HubName("lab/bulb", "v1", "sub/a.hespotex")),
        ("https://lab.org/a.hespotex", WebName("https://lab.org/a.hespotex")),
        (f"http://lab.org/a#sha256={SHA256}", WebName("http://lab.org/a", SHA256)),
        ("lab", None),
        ("models/lab.hespotex", None),
    ],
)
def test_an_address_means_a_file_of_a_hub_or_of_the_web(text: str, meaning: object) -> None:
    assert remote_name(text) == meaning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf://bulb", r"expected hf://org/repo\[@revision\]\[/file\], found 'hf://bulb'"),
        ("https://lab.org/a#sha256=12", "expected #sha256= and 64 hexadecimal digits"),
        ("http://lab.org/a.hespotex", "whose answer nobody can change on its way.*use https"),
    ],
)
def test_an_address_that_is_none_or_that_anybody_can_change_is_refused(
    text: str, said: str
) -> None:
    with pytest.raises(ModelFileError, match=said):
        remote_name(text)


def test_a_model_of_the_web_works_without_network_once_it_was_fetched(web: Web) -> None:
    source = web.url(f"/tiny.hespotex#sha256={SHA256}")
    kept = fetch_model(source, name="bulb")
    assert (kept.name, kept.sha256, kept.checked_against) == ("bulb", SHA256, "the address")
    asked = len(web.asked)
    for name in ("bulb", source, Path(source)):  # Path makes one slash of two
        assert local_model(name).read_bytes() == CONTENT
    assert len(web.asked) == asked
    assert [p.name for p in model_folder().iterdir() if p.name.startswith(".")] == []


def test_the_checksum_beside_a_file_counts_where_the_address_has_none(web: Web) -> None:
    web.files["/tiny.hespotex.sha256"] = f"{SHA256}  tiny.hespotex\n".encode()
    assert (
        fetch_model(web.url("/tiny.hespotex")).checked_against == "tiny.hespotex.sha256 beside it"
    )
    web.files["/other.hespotex"] = CONTENT
    web.files["/other.hespotex.sha256"] = ("0" * 64).encode()
    with pytest.raises(HESpotExError, match="as its publisher states, found sha256"):
        fetch_model(web.url("/other.hespotex"))
    assert [m.name for m in kept_models()] == ["tiny"]


def test_a_file_that_is_no_model_is_not_kept(web: Web) -> None:
    web.files["/page.hespotex"] = b"<html>please log in</html>"
    with pytest.raises(ModelFileError, match="expected a whole model file"):
        fetch_model(web.url("/page.hespotex"))
    assert kept_models() == []


def test_a_kept_model_whose_bytes_were_changed_is_refused_with_the_cure(tmp_path: Path) -> None:
    add_model(MODEL, name="lab")
    assert local_model("lab").read_bytes() == CONTENT
    path = model_folder() / "lab.hespotex"
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(
        ModelFileError, match=r"the kept model lab as it came, found other bytes.*models add tiny"
    ):
        local_model("lab")


def test_another_model_never_takes_a_name_that_is_taken(web: Web) -> None:
    add_model(MODEL, name="lab")
    add_model(MODEL, name="lab")
    with pytest.raises(
        ModelFileError, match=r"no other model of the name lab, found one from tiny.hespotex"
    ):
        fetch_model(web.url("/tiny.hespotex"), name="lab")


def test_another_file_of_the_same_name_replaces_no_kept_model_unasked(tmp_path: Path) -> None:
    add_model(MODEL, name="lab")
    other = _with_encoder(tmp_path / MODEL.name, "another")
    with pytest.raises(
        ModelFileError, match=r"no other model of the name lab, found one from tiny"
    ):
        add_model(other, name="lab")
    assert local_model("lab").read_bytes() == CONTENT
    (model_folder() / "lab.hespotex").unlink()
    assert add_model(other, name="lab").sha256 != SHA256


def test_a_kept_model_whose_file_vanished_says_what_brings_it_again(web: Web) -> None:
    source = web.url(f"/tiny.hespotex#sha256={SHA256}")
    fetch_model(source, name="lab")
    (model_folder() / "lab.hespotex").unlink()
    assert kept_models() == []
    with pytest.raises(
        ModelFileError, match=rf"lab as it came, found nothing in .*fetch {web.address}/tiny"
    ):
        local_model("lab")
    assert local_model(source).read_bytes() == CONTENT  # its address does so by itself


def test_a_checksum_that_is_stated_counts_for_what_is_kept_from_there(web: Web) -> None:
    source = web.url("/tiny.hespotex")
    fetch_model(f"{source}#sha256={SHA256}", name="lab")
    assert local_model(f"{source}#sha256={SHA256.upper()}") == local_model(source)
    other = f"{source}#sha256={'0' * 64}"
    with pytest.raises(
        ModelFileError, match=rf"sha256 0+ of {source}, found {SHA256} of the kept model lab"
    ):
        local_model(other)
    with pytest.raises(DownloadError, match="as its publisher states"):
        fetch_model(other, name="lab")
    assert local_model("lab").read_bytes() == CONTENT


def test_a_name_that_no_model_has_names_the_nearest() -> None:
    with pytest.raises(
        ModelFileError, match=r"no model is kept yet in .*models: `hespotex models`"
    ):
        local_model("bulbb")
    add_model(MODEL, name="bulb")
    with pytest.raises(ModelFileError, match=r"found 'bulbb'; kept are bulb: `hespotex models`"):
        local_model("bulbb")


def test_a_path_is_a_path_also_where_no_file_is(tmp_path: Path) -> None:
    for path in (tmp_path / "none.hespotex", Path("none.hespotex"), Path("folder/none")):
        assert local_model(path) == path


def test_a_folder_of_the_same_name_hides_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict lab SLIDE --out lab` makes one; the second call has to find the model again."""
    monkeypatch.chdir(tmp_path)
    add_model(MODEL, name="lab")
    Path("lab").mkdir()
    assert local_model("lab") == local_model(Path("lab")) == model_folder() / "lab.hespotex"


def test_a_model_of_a_hub_is_fetched_with_its_commit_and_checksum(hub: Web) -> None:
    kept = fetch_model("hf://lab/bulb")
    assert (kept.name, kept.sha256, kept.revision) == ("bulb", SHA256, "a" * 40)
    assert kept.checked_against == "the hub's record"
    hub.routes.clear()
    hub.files.clear()
    assert local_model("hf://lab/bulb").read_bytes() == CONTENT


def test_a_hub_that_gives_other_bytes_than_it_states_is_refused(hub: Web) -> None:
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    hub.files[f"/lab/bulb/resolve/{'a' * 40}/tiny.hespotex"] = other
    with pytest.raises(DownloadError, match=r"as its publisher states, found sha256"):
        fetch_model("hf://lab/bulb")
    assert kept_models() == []


def test_a_repository_without_a_model_or_with_several_says_what_to_name(hub: Web) -> None:
    hub_repository(hub, "lab/none", {"README.md": b"x"})
    with pytest.raises(ModelFileError, match="one model file in hf://lab/none, found no file"):
        fetch_model("hf://lab/none")
    hub_repository(hub, "lab/two", {"a.hespotex": CONTENT, "b.hespotex": CONTENT})
    with pytest.raises(ModelFileError, match=r"found a.hespotex, b.hespotex; name one behind"):
        fetch_model("hf://lab/two")
    assert fetch_model("hf://lab/two/b.hespotex").name == "b"


def test_a_repository_that_is_not_there_and_a_hub_out_of_reach_are_one_line(
    hub: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.routes["GET", "/api/models/lab/none"] = refusing(404, "RepoNotFound", "no repository")
    with pytest.raises(
        ModelFileError, match=r"the model hf://lab/none, found: no such repository, or a private"
    ):
        fetch_model("hf://lab/none")
    hub.routes["GET", "/api/models/lab/bulb/auth-check"] = refusing(403, "GatedRepo", "restricted")
    with pytest.raises(
        ModelFileError, match=r"it is gated; accept its terms on https://huggingface.co/lab/bulb"
    ):
        fetch_model("hf://lab/bulb")
    assert not any("resolve" in path for path, _ in hub.asked)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(ModelFileError, match="the hub cannot be reached"):
        fetch_model("hf://lab/bulb")


def test_what_is_published_holds_no_count_of_a_training_spot_unless_asked(tmp_path: Path) -> None:
    licences = Licences("cc-by-4.0", "cc-by-4.0", "mit")
    assert any(name.startswith("nearest.") for name in read_model(MODEL).trust)
    folder = prepare(MODEL, tmp_path / "push", licences)
    shared = read_model(folder / MODEL.name)
    assert not any(name.startswith("nearest.") for name in shared.trust)
    assert shared.model_id == read_model(MODEL).model_id
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: hespotex\n")
    assert "measured counts of" not in card
    kept = read_model(prepare(MODEL, tmp_path / "all", licences, keep_counts=True) / MODEL.name)
    for name, array in read_model(MODEL).trust.items():
        np.testing.assert_array_equal(kept.trust[name], array)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["lazyslide:uni", "lazyslide:conch"])
def test_an_encoder_whose_licence_forbids_derivatives_is_named_and_nothing_is_written(
    tmp_path: Path, encoder: str
) -> None:
    path = _with_encoder(tmp_path / "m.hespotex", encoder)
    for stated in (None, "MIT"):
        with pytest.raises(ModelFileError, match=rf"found {encoder} under CC-BY-NC-ND-4.0"):
            prepare(path, tmp_path / "push", Licences("mit", "mit", stated))
    assert not (tmp_path / "push").exists()


def test_an_encoder_of_unknown_licence_needs_one_stated(tmp_path: Path) -> None:
    path = _with_encoder(tmp_path / "m.hespotex", "timm:resnet18")
    with pytest.raises(
        ConfigError, match=r"the licence of the encoder timm:resnet18.*--encoder-licence"
    ):
        prepare(path, tmp_path / "push", Licences("mit", "mit"))
    prepare(path, tmp_path / "push", Licences("mit", "mit", "apache-2.0"))
    with pytest.raises(ModelFileError, match=r"found timm:resnet18 under CC BY-NC-ND 4\.0"):
        prepare(path, tmp_path / "again", Licences("mit", "mit", "CC BY-NC-ND 4.0"))


# The hub's client streams bytes in a way that its own library of HTTP calls old.
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_a_model_is_pushed_with_its_card_and_fetched_again(hub: Web) -> None:
    """The hub's own client sends; what arrives is what a stranger then fetches."""
    sent = hub_to_push_to(hub, "lab/mine")
    folder = model_folder().parent / "push"
    at = push(MODEL, "hf://lab/mine", folder, Licences("mit", "cc0-1.0", "mit"))
    assert at == f"hf://lab/mine@{'b' * 40}"
    assert set(sent) == {"README.md", "tiny.hespotex"}
    assert b"license: mit" in sent["README.md"]
    hub_repository(hub, "lab/mine", sent, commit="b" * 40)
    assert read_model(local_model(at)).model_id == read_model(MODEL).model_id


def test_the_command_fetches_lists_shows_and_refuses(web: Web) -> None:
    done = command("models", "fetch", web.url(f"/tiny.hespotex#sha256={SHA256}"), "--name", "bulb")
    assert done.exit_code == 0, done.output
    assert "use it: hespotex predict bulb SLIDE" in done.stdout
    assert SHA256[:20] in "".join(command("models", "list").stdout.split())
    assert "# Model card" in command("models", "show", "bulb").stdout
    assert "found 'nobody'; kept are bulb" in refusal(command("models", "show", "nobody"))
    assert "found 'nobody'" in refusal(
        command("predict", "nobody", MODEL, "--out", model_folder() / "x")
    )
    web.statuses["/tiny.hespotex"] = [404]
    assert "there is no such file (404)" in refusal(
        command("models", "fetch", web.url("/tiny.hespotex"), "--name", "b")
    )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_foreign_model_with_any_bytes_in_its_header_is_read_or_refused_in_words(
    tmp_path: Path, data: st.DataObject
) -> None:
    """No byte of it is run: a header is JSON, an array numbers."""
    length = 8 + int.from_bytes(CONTENT[:8], "little")
    changed = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "foreign.hespotex"
    path.write_bytes(
        bytes(changed[: data.draw(st.sampled_from([len(changed), length, length + 100]))])
    )
    with suppress(ModelFileError):  # any other error is a fault
        read_model(path)


def _with_encoder(path: Path, name: str) -> Path:
    from dataclasses import replace

    bundle = read_model(MODEL)
    write_model(path, replace(bundle, encoder=replace(bundle.encoder, name=name)))
    return path
