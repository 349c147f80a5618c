"""The commands and tables of infra/README.md; a fenced block is known by its name, as in `sh deploy`."""

from __future__ import annotations

import re

from templates import INFRA

README = INFRA / "README.md"


def blocks() -> dict[str, str]:
    found = re.findall(r"^```sh (\S+)\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert len(found) == len(dict(found)), "two blocks have the same name"
    return dict(found)


def with_parameters(block: str, template: str, parameters: dict[str, str]) -> str:
    """The block, with these parameters set or replaced in each of its deployments of `template`."""

    def deployment(found: re.Match) -> str:
        text = found[0]
        for name, value in parameters.items():
            text = re.sub(rf' {name}=("[^"]*"|\S+)', "", text)
            text = text.replace("--parameter-overrides", f'--parameter-overrides {name}="{value}"')
        return text

    deploy = r"aws cloudformation deploy (?:(?!\naws )[\s\S])*"
    return re.sub(deploy, lambda m: deployment(m) if f"infra/{template}.yaml" in m[0] else m[0], block)


def table_names(title: str, template: str) -> list[str]:
    """The names in the first column of the table of `template` in the section `title`."""
    section = README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    section = section.split(f"\n### `{template}.yaml`\n")[1].split("\n### ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def defaults(template: str) -> dict[str, str]:
    """The defaults in the table of parameters of `template`, by parameter."""
    section = README.read_text().split("\n## Parameters\n")[1].split("\n## ")[0]
    section = section.split(f"\n### `{template}.yaml`\n")[1].split("\n### ")[0]
    return {name: value.strip("` ") for name, value in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M)}
