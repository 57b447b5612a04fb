# SPDX-License-Identifier: MIT
"""Writes docs/api.md from the docstrings of the public names.

    python docs/api.py            # writes it
    python docs/api.py --check    # only says whether it is up to date: exit code 1 if not

A public name is one in ``__all__``. Every one must have a docstring, and so must its public methods.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "api.md"

MODULES = {
    "fused_ssim": "SSIM, losses, and the interfaces of fused-ssim and pytorch-msssim.",
    "fused_ssim.array": "",
    "fused_ssim.jax": "",
    "fused_ssim.metrics": "",
    "fused_ssim.distributed": "",
    "fused_ssim.compat.fused_ssim": "",
    "fused_ssim.compat.fused_ssim_cuda": "",
    "fused_ssim.compat.pytorch_msssim": "",
    "fused_ssim.compat.skimage": "",
    "fused_ssim.compat.torchmetrics": "",
    "fused_ssim.compat.monai": "",
    "fused_ssim.compat.kornia": "",
    "fused_ssim.compat.piq": "",
}
# Headings of the docstrings, in their order.
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example")


def page() -> str:
    """The whole page."""
    *most, last = (f"`{name}`" for name in MODULES)
    names = textwrap.fill(f"All names of {', '.join(most)} and {last}.", 119, break_long_words=False).split("\n")
    parts = [
        "# API",
        "",
        "<!-- written by docs/api.py from the docstrings; do not edit -->",
        "",
        *names,
        "[masks.md](masks.md) shows what masks mean; [fusedssim.h](../include/fusedssim/fusedssim.h) describes the C",
        "interface.",
        "",
    ]
    places: dict[int, str] = {}
    for name, introduction in MODULES.items():
        module = importlib.import_module(name)
        public = {each: getattr(module, each) for each in sorted(module.__all__, key=str.lower)}
        new = {each: value for each, value in public.items() if id(value) not in places}
        places.update({id(public[each]): target for each, target in anchors(name, list(new)).items()})
        parts += [f"## {name}", "", introduction or text(inspect.getdoc(module) or ""), ""]
        parts += [", ".join(f"[`{each}`](#{places[id(value)]})" for each, value in public.items()), ""]
        for each, value in new.items():
            parts += entry(f"{name}.{each}", value)
    return "\n".join(parts).rstrip("\n") + "\n"


def anchors(module: str, names: list[str]) -> dict[str, str]:
    """Where the entries of a module are on the page."""
    found: dict[str, str] = {}
    seen: list[str] = []
    for name in names:
        target = anchor(f"{module}.{name}")
        # GitHub numbers headings that differ only in case.
        found[name] = f"{target}-{seen.count(target)}" if target in seen else target
        seen.append(target)
    return found


def anchor(name: str) -> str:
    """How GitHub calls a heading."""
    return name.lower().replace(".", "")


def entry(name: str, value: Any) -> list[str]:
    """A function, a class with its methods, or a constant."""
    parts = [f"### {name}", ""]
    if not callable(value):
        return [*parts, f"`{value!r}`", ""]
    parts += [signature(name.rsplit(".", 1)[1], value), *documentation(name, value)]
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if method.startswith("_") or not callable(getattr(value, method)) or method == "extra_repr":
                continue
            plain = function.__func__ if isinstance(function, staticmethod) else function
            parts += [f"#### {name.rsplit('.', 1)[1]}.{method}", "", signature(method, plain)]
            parts += documentation(f"{name}.{method}", plain)
    return parts


def signature(name: str, value: Any) -> str:
    """The signature as code, one argument to a line if it is long."""
    # Annotations are strings.
    arguments = [
        re.sub(r'(: |-> )"([^"]*)"', r"\1\2", re.sub(r"(?<![\w.])torch\.", "", str(parameter)).replace("'", '"'))
        for parameter in inspect.signature(value).parameters.values()
        if parameter.name != "self"
    ]
    kinds = [parameter.kind for parameter in inspect.signature(value).parameters.values() if parameter.name != "self"]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        arguments.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = inspect.signature(value).return_annotation
    end = ")" if inspect.isclass(value) or returns is inspect.Signature.empty else f") -> {returns}"
    line = f"{name}({', '.join(arguments)}{end}"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + end
    return f"```python\n{line}\n```\n"


def documentation(name: str, value: Any) -> list[str]:
    """A docstring of the form that is used here, as Markdown."""
    docstring = inspect.getdoc(value)
    if not docstring:
        sys.exit(f"{name} has no docstring")
    pieces = re.split(rf"^({'|'.join(SECTIONS)}):\n", docstring, flags=re.MULTILINE)
    parts = [text(pieces[0]), ""]
    for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
        body = inspect.cleandoc("\n" + body) if heading == "Example" else dedent(body)
        if heading == "Example":
            parts += ["```python", body.strip("\n"), "```", ""]
        elif heading == "Returns":
            parts += [f"**Returns** {text(body)}", ""]
        else:
            parts += [f"**{heading}**", "", *items(body), ""]
    return parts


def dedent(body: str) -> str:
    return "\n".join(line[4:] for line in body.split("\n"))


def items(body: str) -> list[str]:
    """``name: what it is``, continued on deeper lines, as a list."""
    result: list[str] = []
    for line in body.strip("\n").split("\n"):
        if line and not line.startswith(" "):
            name, _, rest = line.partition(": ")
            result.append(f"- `{name}`: {rest}" if rest else f"- {line}")
        elif line.strip():
            result[-1] += " " + line.strip()
    return [text(item) for item in result]


def text(body: str) -> str:
    """Markup of docstrings as Markdown: references, code, literal blocks."""
    body = re.sub(r":(?:func|class|meth|mod):`~?([^`]+)`", r"`\1`", body)
    body = re.sub(r"``([^`]+)``", r"`\1`", body)
    return re.sub(r",? ?::$", ":", body.strip(), flags=re.MULTILINE)


def main() -> None:
    """Writes the page, or checks it."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    wanted = page()
    if not sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/api.md is not up to date: run python docs/api.py")


if __name__ == "__main__":
    main()
