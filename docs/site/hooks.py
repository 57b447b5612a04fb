# SPDX-License-Identifier: MIT
"""Hooks of mkdocs: pages that are made of the sources, and links that leave docs/.

- `reference/c.md` is include/fusedssim/fusedssim.h, `reference/command.md` the help of the command.
- The pages of the repository (CONTRIBUTING.md, ...) are part of the site. A link to any other file outside docs/ leads
  to a page with that file; a link to a folder leads to a list of its files. So the site needs no network and no address
  of the repository.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
import header  # noqa: E402

LINK = re.compile(r"(?<=\]\()([^()#\s:]+)(#[^()\s]*)?(?=\))")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
LANGUAGES = {".py": "python", ".h": "c", ".c": "c", ".hpp": "cpp", ".cpp": "cpp", ".cu": "cuda", ".json": "json"}

# From a file or folder of the repository to its page, and back.
pages: dict[str, str] = {"README.md": "index.md", "docs/api.md": "reference/python.md"}
origins: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here, and then those that they and all others link to."""
    made = {
        "reference/c.md": header.page((ROOT / "include/fusedssim/fusedssim.h").read_text(encoding="utf-8")),
        "reference/command.md": command_page(),
    }
    pages["include/fusedssim/fusedssim.h"] = "reference/c.md"
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        made[add(name, f"project/{name}")] = (ROOT / name).read_text(encoding="utf-8")
    todo: list[tuple[str, str]] = [*made.items()]
    for file in files.documentation_pages():
        pages[f"docs/{file.src_uri}"] = file.src_uri
        if file.src_uri.endswith(".md"):
            todo.append((file.src_uri, file.content_string))
    while todo:
        uri, text = todo.pop()
        for target in targets(uri, text):
            if target not in pages and not target.startswith("docs/images/"):
                new = add(target, f"source/{target}" if target.endswith(".md") else f"source/{target}.md")
                made[new] = source_page(target)
                todo.append((new, made[new]))
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Leads links to the pages of this site."""
    uri = page.file.src_uri

    def led(match: re.Match[str]) -> str:
        target = resolved(uri, match[1])
        if target not in pages:
            return match[0]
        return posixpath.relpath(pages[target], posixpath.dirname(uri) or ".") + (match[2] or "")

    return LINK.sub(led, markdown)


def add(origin: str, uri: str) -> str:
    """Notes that a file of the repository is that page."""
    pages[origin], origins[uri] = uri, origin
    return uri


def resolved(uri: str, link: str) -> str:
    """The file or folder of the repository that a link on that page means."""
    if link.startswith("/"):  # of the lists of folders
        return link[1:]
    here = origins.get(uri, f"docs/{uri}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def targets(uri: str, text: str) -> list[str]:
    """What a page links to in the repository."""
    found = {resolved(uri, match[1]) for match in LINK.finditer(text)}
    return sorted(target for target in found if not target.startswith("..") and (ROOT / target).exists())


def source_page(target: str) -> str:
    """A file as it stands, or the list of a folder's files."""
    path = ROOT / target
    if path.is_dir():
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", target],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        return "\n".join([UNSEARCHED, f"# {target}", "", *(f"- [{name}](/{name})" for name in tracked)])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    fence = "`" * 6
    return f"{UNSEARCHED}\n# {target}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"


def command_page() -> str:
    """The help of the command and of each of its parts."""
    from fused_ssim.cli import main

    parts = ["# The command `fused-ssim`", "", "```text", help_of(main, "fused-ssim"), "```", ""]
    for name, command in sorted(main.commands.items()):
        parts += [f"## fused-ssim {name}", "", "```text", help_of(command, f"fused-ssim {name}"), "```", ""]
    return "\n".join(parts)


def help_of(command: click.Command, name: str) -> str:
    """What --help prints."""
    settings: dict[str, Any] = {"terminal_width": 100, "help_option_names": ["-h", "--help"]}
    return command.get_help(click.Context(command, info_name=name, **settings))
