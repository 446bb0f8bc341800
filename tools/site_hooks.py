"""Hooks of the documentation site (mkdocs.yml): the pages and files that live outside of docs/.

In the repository a page links to what it means: `../CONTRIBUTING.md`, `../examples/quick_start.py`. The site
has the first as a page and the second as a file beside its pages, and the links are changed to lead there. A
link to any other file outside of docs/ is left as it is, and fails the strict build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# As they are in the repository, and the name of the page.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
FILES = [
    "LICENSE",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("examples/*.py")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("rust/examples/*.rs")),
]
# What a page would load without being asked: scripts, pictures, frames, and links of the head.
LOADED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="?(https?:[^"> ]+)|<link\b[^>]*\bhref="?(https?:[^"> ]+)'
)
LINK = re.compile(r"(\]\()((?:\.\./)*)([^)#\s]+)(#[^)\s]*)?(?=[)\s])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and the files that pages link to."""
    for source, page in PAGES.items():
        text = from_the_root((ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    for source in FILES:
        # A folder's name in front, or a browser would offer `LICENSE` as a page of the site.
        files.append(File.generated(config, f"source/{source}", abs_src_path=str(ROOT / source)))
    return files


def from_the_root(text: str) -> str:
    """The links of a page of the root, as they would stand in docs/."""

    def moved(link: re.Match[str]) -> str:
        begin, _, path, anchor = link.groups(default="")
        if "://" in path or path.startswith("mailto:"):
            return link[0]
        target = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
        return f"{begin}{target}{anchor}"

    return LINK.sub(moved, text)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links out of docs/ to the page or the file of the site."""

    def led(link: re.Match[str]) -> str:
        begin, above, path, anchor = link.groups(default="")
        if above != "../":
            return link[0]
        if path in PAGES:
            return f"{begin}{PAGES[path]}{anchor}"
        if path in FILES:
            return f"{begin}source/{path}{anchor}"
        return link[0]

    return LINK.sub(led, markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """The docstring of `PsqlpyConfig` gets its table of settings when it is imported; the site has a page."""
    return html.replace("<p>{table}</p>", '<p><a href="settings.html">Settings</a> lists them.</p>')


def on_post_build(*, config: MkDocsConfig) -> None:
    """Nothing is loaded from a network, so that the site works where there is none."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        found = [script or link for script, link in LOADED.findall(text)]
        if found:
            raise PluginError(f"{path.name} loads {', '.join(found)}: keep a copy in docs/, or leave it out")
        if "{table}" in text:
            raise PluginError(f"{path.name} shows {{table}}: the docstring of PsqlpyConfig has changed")
