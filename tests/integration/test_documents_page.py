"""docs/documents.md, followed to the letter: its files are written, its code and its commands run."""

from __future__ import annotations

import http.server
import re
import shlex
import sys
import threading
import zipfile

import pytest
from documented_pages import blocks_of, copy_to, page_of, run
from made_documents import HTML, made_docx, made_pdf

import workbench as wb
from workbench.errors import ConfigError
from workbench.retrieval.formats import by_ending

PAGE = page_of("documents.md")


def blocks(language):
    return blocks_of(PAGE, language)


@pytest.fixture
def copy(tmp_path):
    """What the page needs of the repository, and the documents that it speaks of."""
    copy_to(tmp_path)
    access, spec = blocks("yaml")
    documents = {
        "acme/windows.md": b"# Windows\n\nA broken window is paid in full.", "acme/news/fares.html": HTML,
        "acme/legal/rules.docx": made_docx(), "acme/empty.txt": b"", "acme/logo.png": b"\x89PNG",
        "globex/report.pdf": made_pdf("A policy is kept for ten years.", "A claim is made in 30 days."),
        "access.yaml": access.encode(),
    }  # fmt: skip
    for name, data in documents.items():
        (tmp_path / "data/claims" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/claims" / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "data/claims.zip", "w") as archive:
        archive.writestr("acme/windows.md", "# Windows")
    folder = tmp_path / "pipelines/memories/claims"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(spec)
    return tmp_path


def test_the_code_and_the_commands_of_the_page_do_what_it_says(copy):
    load, places, search = blocks("python")
    shown = run(copy, sys.executable, "-c", load + places)
    assert "globex report.pdf#page=2 report, p. 2" in shown
    assert "acme news/fares.html Travel & costs" in shown
    assert "empty.txt: it is empty" in shown and ".png: not a document" in shown
    (commands,) = blocks("console")
    outputs = [run(copy, sys.executable, "-m", "workbench.cli", *shlex.split(line)[1:])
               for line in commands.splitlines()]  # fmt: skip
    assert "empty.txt: it is empty" in outputs[1]
    assert "windows.md" in outputs[2]
    found = run(copy, sys.executable, "-c", "import workbench as wb\n" + search)
    assert found.splitlines()[0].count("|") == 1


@pytest.fixture
def site(tmp_path):
    """The address of a server of one page, and the paths that were asked for."""
    (tmp_path / "a.html").write_bytes(HTML)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *_):
            asked.append(self.path.partition("?")[0])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_an_address_of_the_web_is_one_file_and_its_links_are_not_followed(site):
    address, asked = site
    (page,) = wb.load(f"{address}/a.html?token=secret", tenant="acme")
    assert (page.source, page.title) == ("a.html", "Travel & costs")
    with pytest.raises(ConfigError, match=r"none\.html: it cannot be read") as caught:
        wb.load(f"{address}/none.html?token=secret", tenant="acme")
    assert "secret" not in str(caught.value)
    assert set(asked) == {"/a.html", "/none.html"}


def test_the_page_names_every_ending_that_is_read():
    named = set(re.findall(r"`(\.[a-z]+)`", PAGE))
    assert set(by_ending.ENDINGS) <= named
