"""Loads the templates as data: short-form tags (`!Ref`, `!Sub`, …) become their long form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
NAMES = ("photos", "access", "topic", "key")


class _Loader(yaml.SafeLoader):
    """A SafeLoader for the tags of CloudFormation."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


def path(name: str) -> Path:
    return INFRA / f"{name}.yaml"


def load(name: str) -> dict:
    return yaml.load(path(name).read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader


def of_type(template: dict, kind: str) -> dict[str, dict]:
    return {n: r for n, r in template["Resources"].items() if r["Type"] == kind}


def walk(value) -> Iterator[object]:
    """Every node of a tree, the root first."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def references(value) -> set[str]:
    """The logical names that a tree refers to by Ref, GetAtt or Sub."""
    found = set()
    for node in walk(value):
        if not isinstance(node, dict):
            continue
        if isinstance(node.get("Ref"), str):
            found.add(node["Ref"])
        if "Fn::GetAtt" in node:
            found.add(node["Fn::GetAtt"][0])
        if "Fn::Sub" in node:
            text = node["Fn::Sub"] if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"][0]
            found |= {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]}
    return found


def expand_conditions(value):
    """The members of a list, with both branches of each `Fn::If` and without NoValue."""
    for item in value:
        branches = item["Fn::If"][1:] if isinstance(item, dict) and "Fn::If" in item else [item]
        yield from (b for b in branches if b != {"Ref": "AWS::NoValue"})


def statements(resource: dict) -> list[dict]:
    return list(expand_conditions(resource["Properties"]["PolicyDocument"]["Statement"]))


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]
