"""The lines of infra/README.md: each fenced block `sh NAME` by its name."""

from __future__ import annotations

import re

from templates import INFRA

README = INFRA / "README.md"


def blocks() -> dict[str, str]:
    found = re.findall(r"^```sh (\S+)\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert len(found) == len(dict(found)), "two blocks of one name"
    return dict(found)


def with_parameters(block: str, template: str, parameters: dict[str, str]) -> str:
    """The block with these parameters in each deployment of `template` in it, instead of its own of that name."""

    def deployment(found: re.Match) -> str:
        text = found[0]
        for name, value in parameters.items():
            text = re.sub(rf' {name}=("[^"]*"|\S+)', "", text)
            text = text.replace("--parameter-overrides", f'--parameter-overrides {name}="{value}"')
        return text

    deploy = r"aws cloudformation deploy (?:(?!\naws )[\s\S])*"
    return re.sub(deploy, lambda m: deployment(m) if f"infra/{template}.yaml" in m[0] else m[0], block)


def table(title: str, template: str) -> list[str]:
    """The names in the first column of `### template` under `## title`."""
    section = README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    section = section.split(f"\n### `{template}.yaml`\n")[1].split("\n### ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def defaults(template: str) -> dict[str, str]:
    section = README.read_text().split("\n## Parameters\n")[1].split("\n## ")[0]
    section = section.split(f"\n### `{template}.yaml`\n")[1].split("\n### ")[0]
    return {name: value.strip("` ") for name, value in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M)}
