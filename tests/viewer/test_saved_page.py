"""The page that `hespotex view --export` writes: one self-contained file of some genes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers.toy_prediction import GENES
from helpers.viewed import write_viewed
from hespotex.cli.main import app
from hespotex.errors import ConfigError, GenePanelError
from hespotex.viewer.library import Library
from hespotex.viewer.page import packed_values
from hespotex.viewer.saved_page import save_page
from hespotex.viewer.sources import find_predictions

TWO = [GENES[0], "HLA-A"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_viewed(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def saved(run: Path) -> Path:
    said = CliRunner().invoke(app, ["view", str(run), "--slides", str(run / "slides"), "--export", str(run / "out" / "a page.html"), "--genes", ", ".join(TWO)])  # fmt: skip
    assert said.exit_code == 0, said.output
    assert re.search(r"a page\.html: 0\.\d MiB", said.stdout)
    return run / "out" / "a page.html"


def test_the_page_holds_all_that_it_needs_and_no_address(saved: Path) -> None:
    text = saved.read_text()
    outside = re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*|https?://[^ "']*|@import""", text)
    assert outside == []
    assert "default-src 'none'" in text


def test_a_gene_that_no_slide_holds_leaves_no_page_and_is_told_what_is_near(run: Path) -> None:
    with pytest.raises(GenePanelError, match=r"found HLAA; perhaps HLA-A$"):
        save_page(find_predictions(run), run / "none.html", ["ACTB", "HLAA"])
    assert not list(run.glob("*none*"))


def test_a_page_is_named_html_and_has_genes(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.html, found S1\.h5ad"):
        save_page(find_predictions(run), run / "predictions" / "S1.h5ad", TWO)
    with pytest.raises(ConfigError, match="--genes ERBB2,CD3E"):
        save_page(find_predictions(run), run / "page.html", [])


def test_rounded_values_are_those_of_the_file_to_one_part_in_8000(run: Path) -> None:
    slide = Library(find_predictions(run), lambda _text: None).slide(0)
    for show, gene in (("composition", "ACTB"), ("ood_score", ""), ("region", "")):
        exact, short = (packed_values(slide, show, gene, rounded=r) for r in (False, True))
        n = 4 * slide.file.n_spots
        wide, narrow = (np.frombuffer(packed[-n:], np.float32) for packed in (exact, short))
        assert exact[:-n] == short[:-n]
        assert narrow == pytest.approx(wide, rel=1 / 8000, abs=0, nan_ok=True)
        assert not (narrow.view(np.uint32)[np.isfinite(narrow)] & 0x7FF).any()
