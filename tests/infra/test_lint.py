"""cfn-lint and checkov, offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from templates import INFRA, NAMES, ROOT, load, path

BIN = Path(sys.executable).parent


def checkov_program() -> str:
    """checkov's pinned botocore is not the AWS CLI's, so it lives in an environment of its own."""
    own = ROOT / ".venv-checkov/bin/checkov"
    found = os.environ.get("CHECKOV") or (str(own) if own.exists() else shutil.which("checkov"))
    assert found, (
        "no checkov: python3.11 -m venv .venv-checkov && "
        ".venv-checkov/bin/pip install -r tests/requirements-checkov.txt"
    )
    return found


def cfn_lint(*files: Path) -> subprocess.CompletedProcess:
    command = [BIN / "cfn-lint", "--include-checks", "I", "--", *files]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def checkov(folder: Path) -> dict:
    command = [
        checkov_program(), "--directory", folder, "--framework", "cloudformation",
        "--skip-download", "--output", "json",
    ]  # fmt: skip
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BC_", "PRISMA_"))}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return json.loads(run.stdout)


def suppressions() -> dict[tuple[str, str], str]:
    """(check, resource) to reason, from the templates' metadata."""
    return {
        (skip["id"], f"{resource['Type']}.{name}"): skip["comment"]
        for template in map(load, NAMES)
        for name, resource in template["Resources"].items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }


def test_cfn_lint_finds_nothing():
    run = cfn_lint(*map(path, NAMES))
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip() == ""


def test_cfn_lint_is_not_silenced():
    for name in NAMES:
        assert "cfn-lint:" not in path(name).read_text()


def test_checkov_finds_nothing_that_is_not_reasoned():
    report = checkov(INFRA)
    failed = [(c["check_id"], c["resource"]) for c in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] == sum(len(load(name)["Resources"]) for name in NAMES)
    skipped = {(c["check_id"], c["resource"]) for c in report["results"]["skipped_checks"]}
    assert skipped == set(suppressions()), "a suppression that suppresses nothing"
    assert all(len(reason.split()) > 5 for reason in suppressions().values())


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("${AWS::StackName}-${AWS::AccountId}-${AWS::Region}\n          - !If\n            - ByTopic", "${PhotoBucket.Arn}\n          - !If\n            - ByTopic", "E3004"),
        ("BucketOwnerEnforced", "BucketOwnerEnforce", "E3030"),
        ("OwnershipControls:", "OwnershipControl:", "E3002"),
    ],
)
def test_cfn_lint_notices(tmp_path, old, new, rule):
    text = path("photos").read_text()
    assert old in text
    broken = tmp_path / "photos.yaml"
    broken.write_text(text.replace(old, new))
    assert rule in cfn_lint(broken).stdout


def test_checkov_notices(tmp_path):
    text = path("photos").read_text()
    (tmp_path / "photos.yaml").write_text(text.replace("BlockPublicPolicy: true", "BlockPublicPolicy: false"))
    failed = {c["check_id"] for c in checkov(tmp_path)["results"]["failed_checks"]}
    assert failed == {"CKV_AWS_54"}
