"""Fixtures: one emulator for the whole run, reset before each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cloud import Cloud, ministack  # noqa: E402


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    with ministack(tmp_path_factory.mktemp("ministack") / "log") as url:
        yield url


@pytest.fixture
def cloud(emulator) -> Cloud:
    account = Cloud(emulator)
    account.reset()
    return account


@pytest.fixture
def photos(cloud) -> Cloud:
    """The account with the stack that the README deploys."""
    cloud.run("deploy")
    return cloud
