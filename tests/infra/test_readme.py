"""infra/README.md matches the templates, and the tests run all of its commands."""

from __future__ import annotations

import re

import pytest
import readme
from templates import INFRA, NAMES, ROOT, load

# The blocks of the README that each test file runs.
BLOCKS_BY_FILE = {
    "test_deploy.py": {"deploy", "settings", "update", "change-set", "drift", "delete"},
    "test_access.py": {"access", "key"},
    "test_variants.py": {"topic", "topic-wrapped", "eventbridge", "direct", "kms"},
    "cloud.py": {"output"},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_lists_every_parameter(name):
    assert readme.table_names("Parameters", name) == list(load(name).get("Parameters", {}))


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_lists_every_output(name):
    assert readme.table_names("Outputs", name) == list(load(name)["Outputs"])


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_lists_the_default_of_every_parameter(name):
    documented = readme.defaults(name)
    for parameter, definition in load(name).get("Parameters", {}).items():
        default = str(definition.get("Default", "(required)")) or "empty"
        if (name, parameter) == ("photos", "BucketName"):
            default = "stack-account-region"
        assert documented[parameter] == default, parameter


def test_the_readme_lists_every_template():
    assert {p.stem for p in INFRA.glob("*.yaml")} == set(NAMES)
    for name in NAMES:
        assert f"| `{name}.yaml` |" in readme.README.read_text()


def test_every_block_of_the_readme_is_run():
    assert set(readme.blocks()) == set().union(*BLOCKS_BY_FILE.values())
    for file, names in BLOCKS_BY_FILE.items():
        text = (ROOT / "tests/infra" / file).read_text()
        for name in names:
            assert re.search(rf'["\']{name}["\']', text), f"{file} does not run {name}"


def test_every_fenced_block_has_a_name():
    fences = re.findall(r"^```(.+)$", readme.README.read_text(), re.M)
    assert all(re.fullmatch(r"sh \S+", fence) for fence in fences), fences


def test_the_project_readme_uses_the_same_commands():
    """Each AWS command of the project's README is also in infra/README.md, so the tests run it."""

    def commands(text: str) -> set[str]:
        text = re.sub(r"\\\n\s*", "", text)
        return {re.sub(r"\s+", " ", line.strip()) for line in text.splitlines() if line.strip().startswith("aws ")}

    tested = commands("\n".join(readme.blocks().values()))
    used = commands((ROOT / "README.md").read_text())
    assert used and used <= tested, used - tested
