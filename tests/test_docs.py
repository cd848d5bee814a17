"""README and the pages are right: their code runs, their links lead somewhere."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
if not README.is_file() or not DOCS.is_dir():
    pytest.skip("README.md and docs/ are not beside the tests: they are not installed", allow_module_level=True)

PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# What the code of a page assumes.
PREAMBLE = """
import torch
decoder, z, images = torch.nn.Conv2d(3, 3, 1), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
reconstruction = decoder(z)
"""
IN_ONE_PROCESS = {  # with what must hold afterwards
    "README.md": "assert loss.dim() == 0",
    "docs/index.md": "assert loss.dim() == 0",
    "docs/export.md": "",
    "docs/tutorial.md": 'assert measure(sharper)[1]["8 to 16 px"] < measure(as_before)[1]["8 to 16 px"]',
}
IN_TWO_PROCESSES = "docs/large-scale.md"
ELSEWHERE = "docs/vae.md"  # in test_vae.py


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


def start(program: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    settings = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_all_code_is_run():
    assert {name(page) for page in PAGES if code(page)} == {*IN_ONE_PROCESS, IN_TWO_PROCESSES, ELSEWHERE}


@pytest.mark.slow
@pytest.mark.parametrize("page", IN_ONE_PROCESS)
def test_code(page: str, tmp_path: Path):
    if page == "docs/export.md":
        pytest.importorskip("onnxscript")
    process = start("\n".join([PREAMBLE, code(ROOT / page), IN_ONE_PROCESS[page]]), tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_code_of_large_scale_training(tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    program = code(ROOT / IN_TWO_PROCESSES) + "\ndist.destroy_process_group()\n"
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [start(program, tmp_path, RANK=str(rank), **meeting) for rank in range(2)]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r'(?:\]\(|(?:src|srcset)=")([^)":]+)[)"]', text)
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.name != "api.md":  # its headings come from docstrings
            assert anchor in anchors(target), link


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_licences_of_all_declared_dependencies_are_listed():
    tomllib = pytest.importorskip("tomllib", reason="new in Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    declared += itertools.chain(*project["project"]["optional-dependencies"].values())
    listed = re.findall(r"^\| ([a-z0-9-]+) \|", (DOCS / "licences.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted({re.match(r"[\w-]+", requirement)[0] for requirement in declared} - {"blurfft"})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paragraphs_are_single_lines(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    prose = re.compile(r"^(?![\s|<#>*+-]|:::|--8<--|\d+\. |!\[).*\S")
    for first, second in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        assert not (prose.match(first) and prose.match(second)), f"broken in two: {first[:60]} / {second[:60]}"
