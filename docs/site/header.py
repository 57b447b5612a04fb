# SPDX-License-Identifier: MIT
"""include/fusedssim/fusedssim.h as a page: its comments as text, its declarations as code. There is no other manual.

A comment belongs to what follows it, up to the next comment. A rule `/* ---- Title ---- */` begins a section. The
comment at the head is text with underlined titles.
"""

from __future__ import annotations

import re

RULE = re.compile(r"-{4} (.*?) -{4,}")
COMMENT = re.compile(r"^/\*(?!\*)(.*?)\*/\n?", re.DOTALL | re.MULTILINE)
NAME = re.compile(
    r"^(?:#define (FUSEDSSIM_MAX_\w+|FUSEDSSIM_\w+_DEFAULT)"
    r"|FUSEDSSIM_API [^;(]*?\b(fusedssim_\w+)\("
    r"|(?:static inline|FUSEDSSIM_INLINE) \w+ (fusedssim_\w+)\("
    r"|typedef (?:struct|u?int32_t) (fusedssim_\w+))",
    re.MULTILINE,
)
# What a program does not need to know: guards, the export attribute, extern "C".
PLUMBING = re.compile(
    r'^#if defined\(FUSEDSSIM_STATIC\).*?^#endif\n|^#ifdef __cplusplus\n(?:extern "C" \{|\})\n#endif\n'
    r"|^#ifdef __cplusplus\n#define FUSEDSSIM_INLINE.*?^#endif\n"
    r"|^#ifndef FUSEDSSIM_FUSEDSSIM_H\n|^#define FUSEDSSIM_FUSEDSSIM_H\n|^#endif$",
    re.DOTALL | re.MULTILINE,
)


def page(header: str) -> str:
    """The page in Markdown."""
    head, _, rest = header.partition("*/\n")
    parts = [
        "# The C interface",
        "",
        "This page is the header `fusedssim/fusedssim.h`: its comments are the manual.",
        "",
    ]
    parts += [prose(unframed(head.replace("/*", " *", 1))), ""]
    rest = PLUMBING.sub("", rest)
    position = 0
    pending = ""
    for match in COMMENT.finditer(rest):
        parts += declarations(pending, rest[position : match.start()])
        position, pending = match.end(), ""
        title = RULE.fullmatch(match[1].strip())
        if title:
            parts += [f"## {title[1]}", ""]
        else:
            pending = unframed(match[1])
    parts += declarations(pending, rest[position:])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def unframed(comment: str) -> str:
    """A comment without the asterisks at its left."""
    lines = [re.sub(r"^ \*(?: |$)", "", line) for line in comment.split("\n")]
    return "\n".join(line for line in lines if "SPDX" not in line).strip("\n ")


def prose(text: str) -> str:
    """The text of a comment as Markdown: indented lines are code, underlined lines are titles, the rest is text."""
    parts: list[str] = []
    for block in re.split(r"((?:^ {4}.*\n|^\n(?= {4}))+)", f"{text}\n", flags=re.MULTILINE):
        if block.lstrip("\n").startswith("    "):
            code = "\n".join(line[4:] for line in block.strip("\n").split("\n"))
            parts += ["", "```c", code, "```", ""]
        else:
            marked_up = "\n".join(marked(line) for line in block.split("\n"))
            parts.append(re.sub(r"^(.+)\n-{4,}$", r"## \1\n", marked_up, flags=re.MULTILINE))
    return "\n".join(parts).strip("\n")


def marked(line: str) -> str:
    """A line of text: names of the interface as code, and nothing that Markdown would take for markup."""
    pieces = re.split(r"(`[^`]*`|\b(?:fusedssim|FUSEDSSIM)_\w+\*?(?:\(\))?)", line)
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            pieces[index] = re.sub(r"([*_<|])", r"\\\1", piece)
        elif not piece.startswith("`"):
            pieces[index] = f"`{piece}`"
    return "".join(pieces)


def declarations(comment: str, code: str) -> list[str]:
    """A comment and the declarations after it, each under its name; about all of them if a blank line is between."""
    about_all = code.startswith("\n") and comment
    parts = ["", prose(comment), ""] if about_all else []
    for number, chunk in enumerate(re.split(r"\n{2,}", code.strip("\n"))):
        names = [next(filter(None, found)) for found in NAME.findall(chunk)]
        parts += [f"### {names[0]}", ""] if names else []
        parts += [f'<a id="{name.lower()}"></a>' for name in names[1:]]
        if comment and number == 0 and not about_all:
            parts += ["", prose(comment), ""]
        parts += ["```c", chunk, "```", ""] if chunk else []
    return parts
