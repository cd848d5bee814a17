"""For mkdocs: pages outside docs/, and links to them that also work in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = [
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/results/quality.md",
    "benchmarks/results/study.md",
]
PICTURES = "benchmarks/results/*.png"
_LINK = re.compile(r"(\]\(|(?:src|srcset)=\")([^)\"#:]+)(?=[)\"#])")


def on_files(files: Files, config: Any) -> Files:
    for path in [*OUTSIDE, *(picture.relative_to(ROOT).as_posix() for picture in sorted(ROOT.glob(PICTURES)))]:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Translates relative links of the repository, where docs/ is a folder, to the site, where it is the root."""
    source = page.file.src_uri
    folder = posixpath.dirname(source if source in OUTSIDE else f"docs/{source}")

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        return match[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(source) or ".")

    return _LINK.sub(link, markdown)
