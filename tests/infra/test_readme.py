"""infra/README.md says what the templates say, and its lines are lines that the tests run."""

from __future__ import annotations

import re

import pytest
import readme
from templates import INFRA, NAMES, ROOT, load

# What the tests run, by the file that does.
RUN = {
    "test_deploy.py": {"deploy", "settings", "update", "change-set", "drift", "delete"},
    "test_access.py": {"access", "key"},
    "test_variants.py": {"topic", "topic-wrapped", "eventbridge", "direct", "kms"},
    "cloud.py": {"output"},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_stands_in_the_readme(name):
    assert readme.table("Parameters", name) == list(load(name).get("Parameters", {}))


@pytest.mark.parametrize("name", NAMES)
def test_every_output_stands_in_the_readme(name):
    assert readme.table("Outputs", name) == list(load(name)["Outputs"])


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_tells_the_defaults(name):
    said = readme.defaults(name)
    for parameter, definition in load(name).get("Parameters", {}).items():
        real = str(definition.get("Default", "(required)")) or "empty"
        if (name, parameter) == ("photos", "BucketName"):
            real = "stack-account-region"
        assert said[parameter] == real, parameter


def test_every_template_stands_in_the_readme():
    assert {p.stem for p in INFRA.glob("*.yaml")} == set(NAMES)
    for name in NAMES:
        assert f"| `{name}.yaml` |" in readme.README.read_text()


def test_every_line_of_the_readme_is_run():
    assert set(readme.blocks()) == set().union(*RUN.values())
    for file, names in RUN.items():
        text = (ROOT / "tests/infra" / file).read_text()
        for name in names:
            assert re.search(rf'["\']{name}["\']', text), f"{file} does not run {name}"


def test_every_fenced_block_has_a_name():
    fences = re.findall(r"^```(.+)$", readme.README.read_text(), re.M)
    assert all(re.fullmatch(r"sh \S+", fence) for fence in fences), fences


def test_the_project_readme_deploys_with_the_same_lines():
    """Each AWS command of the project's README is one of these, so that it is run, too."""

    def commands(text: str) -> set[str]:
        text = re.sub(r"\\\n\s*", "", text)
        return {re.sub(r"\s+", " ", line.strip()) for line in text.splitlines() if line.strip().startswith("aws ")}

    here = commands("\n".join(readme.blocks().values()))
    there = commands((ROOT / "README.md").read_text())
    assert there and there <= here, there - here
