#!/usr/bin/env python3
"""Uploads photos to a PhotoShare feed and waits until the feed has announced them.

    python3 upload_photos.py http://127.0.0.1:3000 summer beach.jpg lake.png

Needs only Python's standard library. Set PHOTOSHARE_TOKEN if the server requires a token.
docs/protocol.md#uploads is the reference.
"""

import json
import mimetypes
import os
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

ATTEMPTS = 6
ANNOUNCED_WITHIN_SECS = 120


def main(server, feed, *files):
    uploads = f"{server}/v1/feeds/{quote(feed, safe='')}/uploads"
    for file in map(Path, files):
        photo = file.read_bytes()
        content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        grant = request_json("POST", uploads, {"contentType": content_type, "size": len(photo), "filename": file.name})
        put(grant, photo)
        wait_until_announced(uploads, grant)
        print(f"{file} is {grant['key']}")


def put(grant, photo):
    """Sends the file to the bucket with exactly the grant's headers: they are part of the signature."""
    for pause in pauses():
        try:
            with urlopen(Request(grant["url"], photo, grant["headers"], method=grant["method"])):
                return
        except HTTPError as error:
            if error.code == 412:  # already stored: an earlier attempt succeeded, but its response was lost
                return
            if error.code != 409 and error.code < 500:
                sys.exit(f"the bucket refused {grant['key']}: {error.read().decode()}")
        except URLError as error:
            print(f"failed to send {grant['key']}: {error.reason}", file=sys.stderr)
        time.sleep(pause)
    sys.exit(f"gave up sending {grant['key']}")


def wait_until_announced(uploads, grant):
    """Polls the upload's state. A client that is connected waits for the event `imageUploaded` instead."""
    name = grant["key"].rpartition(f"{grant['feed']}/")[2]
    deadline = time.monotonic() + ANNOUNCED_WITHIN_SECS
    while request_json("GET", f"{uploads}/{quote(name)}")["state"] != "announced":
        if time.monotonic() > deadline:
            sys.exit(f"{grant['key']} is stored, but was not announced within {ANNOUNCED_WITHIN_SECS} s")
        time.sleep(0.5)


def request_json(method, url, body=None):
    headers = {"content-type": "application/json"}
    if token := os.environ.get("PHOTOSHARE_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body else None
    for pause in pauses():
        try:
            with urlopen(Request(url, data, headers, method=method)) as response:
                return json.load(response)
        except HTTPError as error:
            problem = json.load(error)  # RFC 9457
            if error.code not in (429, 503):
                sys.exit(f"the server refused: {problem['detail']}")
            time.sleep(problem.get("retryAfter", pause))
    sys.exit("the server is unavailable")


def pauses():
    """Seconds to wait after each attempt; they double."""
    return (0.5 * 2**attempt for attempt in range(ATTEMPTS))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: upload_photos.py SERVER FEED FILE…")
    main(*sys.argv[1:])
