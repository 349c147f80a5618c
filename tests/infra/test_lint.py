"""cfn-lint and checkov find nothing in the templates. Both run offline."""

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


def find_checkov() -> str:
    """The path of checkov. It pins another botocore than the AWS CLI, so it has its own virtual environment."""
    own = ROOT / ".venv-checkov/bin/checkov"
    found = os.environ.get("CHECKOV") or (str(own) if own.exists() else shutil.which("checkov"))
    assert found, (
        "no checkov: python3.11 -m venv .venv-checkov && "
        ".venv-checkov/bin/pip install -r tests/requirements-checkov.txt"
    )
    return found


def run_cfn_lint(*files: Path) -> subprocess.CompletedProcess:
    command = [BIN / "cfn-lint", "--include-checks", "I", "--", *files]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def run_checkov(folder: Path) -> dict:
    command = [
        find_checkov(), "--directory", folder, "--framework", "cloudformation",
        "--skip-download", "--output", "json",
    ]  # fmt: skip
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BC_", "PRISMA_"))}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return json.loads(run.stdout)


def suppressions() -> dict[tuple[str, str], str]:
    """The reason of each suppression in the templates' metadata, by (check, resource)."""
    return {
        (skip["id"], f"{resource['Type']}.{name}"): skip["comment"]
        for template in map(load, NAMES)
        for name, resource in template["Resources"].items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }


def test_cfn_lint_finds_nothing():
    run = run_cfn_lint(*map(path, NAMES))
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip() == ""


def test_cfn_lint_is_not_silenced():
    for name in NAMES:
        assert "cfn-lint:" not in path(name).read_text()


def test_checkov_finds_nothing_without_a_reasoned_suppression():
    report = run_checkov(INFRA)
    failed = [(c["check_id"], c["resource"]) for c in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] == sum(len(load(name)["Resources"]) for name in NAMES)
    skipped = {(c["check_id"], c["resource"]) for c in report["results"]["skipped_checks"]}
    assert skipped == set(suppressions()), "a suppression has no finding"
    assert all(len(reason.split()) > 5 for reason in suppressions().values())


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("${AWS::StackName}-${AWS::AccountId}-${AWS::Region}\n          - !If\n            - ByTopic", "${PhotoBucket.Arn}\n          - !If\n            - ByTopic", "E3004"),
        ("BucketOwnerEnforced", "BucketOwnerEnforce", "E3030"),
        ("OwnershipControls:", "OwnershipControl:", "E3002"),
    ],
)
def test_cfn_lint_detects_a_broken_template(tmp_path, old, new, rule):
    text = path("photos").read_text()
    assert old in text
    broken = tmp_path / "photos.yaml"
    broken.write_text(text.replace(old, new))
    assert rule in run_cfn_lint(broken).stdout


def test_checkov_detects_a_broken_template(tmp_path):
    text = path("photos").read_text()
    (tmp_path / "photos.yaml").write_text(text.replace("BlockPublicPolicy: true", "BlockPublicPolicy: false"))
    failed = {c["check_id"] for c in run_checkov(tmp_path)["results"]["failed_checks"]}
    assert failed == {"CKV_AWS_54"}
