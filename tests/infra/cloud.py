"""An AWS emulator (ministack), and the commands of the README run against it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import botocore.config
import readme
import requests
from templates import ROOT

BIN = Path(sys.executable).parent
REGION = "eu-west-1"
DEADLINE = 20.0


def wait_until(what: str, condition: Callable[[], object], deadline: float = DEADLINE):
    """Calls `condition` until its result is true, and returns the result."""
    end = time.monotonic() + deadline
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}"
        time.sleep(0.02)
    return result


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ministack(log: Path) -> Iterator[str]:
    """The emulator's address. Without AUTH it would not enforce IAM policies."""
    port = _free_port()
    settings = {
        "AUTH": "true", "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen([BIN / "ministack"], env=clean_env() | settings, stdout=out, stderr=out, cwd=log.parent)
        try:
            wait_until("ministack to answer", lambda: process.poll() is not None or _answers(url))
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/_ministack/health", timeout=2).ok
    except requests.ConnectionError:
        return False


def clean_env() -> dict[str, str]:
    """This process's environment without AWS credentials and settings."""
    without_aws = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    no_profile = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
    return without_aws | no_profile | {"PATH": f"{BIN}:{without_aws['PATH']}"}


class Cloud:
    """An AWS account in the emulator, accessed with its owner's credentials."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stderr = ""
        self.last_run = 0
        self.env = clean_env() | {
            "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_PAGER": "",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }  # fmt: skip

    def reset(self) -> None:
        requests.post(f"{self.url}/_ministack/reset", timeout=10).raise_for_status()

    def run(self, *names: str, check: bool = True, **parameters: str) -> str:
        """Runs blocks of the README in one shell, verbatim except for the parameters given here."""
        blocks = readme.blocks()
        script = "".join(blocks[name] for name in ("output", *names))
        no_tls = {"RequireTls": "false"}  # the emulator speaks plain HTTP
        script = readme.with_parameters(script, "topic", no_tls)
        template = "access" if names[0] == "access" else "photos"
        script = readme.with_parameters(script, template, (no_tls if template == "photos" else {}) | parameters)
        # The CLI names a change set by the second, so two deployments must not share one.
        wait_until("the next second", lambda: int(time.time()) > self.last_run)
        bash = ["bash", "-euo", "pipefail", "-c", script]
        result = subprocess.run(bash, capture_output=True, text=True, cwd=ROOT, env=self.env, check=False, timeout=120)
        self.last_run = int(time.time())
        self.stderr = result.stderr
        assert result.returncode == 0 or not check, f"{names}: {result.stdout}\n{result.stderr}\n{self.stack_failures()}"
        return result.stdout

    def stack_failures(self) -> str:
        """The reasons of all failures of stacks."""
        failures = [
            f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}"
            for stack in self.client("cloudformation").describe_stacks()["Stacks"]
            for e in self.client("cloudformation").describe_stack_events(StackName=stack["StackId"])["StackEvents"]
            if "FAILED" in e["ResourceStatus"]
        ]
        return "\n".join(failures)

    def client(self, service: str, key: dict | None = None):
        """A boto3 client with the owner's credentials, or with the access key given."""
        config = botocore.config.Config(
            retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, signature_version="s3v4" if service == "s3" else None
        )
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, config=config,
            aws_access_key_id=key["AccessKeyId"] if key else "test",
            aws_secret_access_key=key["SecretAccessKey"] if key else "test",
        )  # fmt: skip

    def outputs(self, stack: str = "photoshare") -> dict[str, str]:
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}

    def put(self, key: str, body: bytes = b"photo", bucket: str | None = None) -> None:
        self.client("s3").put_object(Bucket=bucket or self.outputs()["BucketName"], Key=key, Body=body)

    def messages(self, url: str | None = None) -> Iterator[dict]:
        """Receives and deletes messages of the queue, and yields each parsed body."""
        sqs, url = self.client("sqs"), url or self.outputs()["QueueUrl"]
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            response = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in response.get("Messages", []):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])
        raise AssertionError(f"no further message within {DEADLINE:.0f} s")

    def records_until(self, key: str, family: str = "ObjectCreated") -> list[tuple[str, str]]:
        """(event, key) of all records that S3 sends to the queue, up to the given one. For Delivery=direct."""
        records: list[tuple[str, str]] = []
        for message in self.messages():
            records += [(r["eventName"], r["s3"]["object"]["key"]) for r in message.get("Records", [])]
            if any(event.startswith(family) and k == key for event, k in records):
                return records
        raise AssertionError
