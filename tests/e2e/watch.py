"""Watches a feed with python-socketio and prints a JSON line for everything it is told.

usage: watch.py URL FEED websocket|polling
"""

import json
import sys

import socketio

SERVER_EVENTS = ("imageUploaded", "imageRemoved", "joined", "problem", "left", "tokenExpiring", "reconnect")


def tell(event, data=None):
    print(json.dumps({"event": event, "data": data}), flush=True)


def main(url, feed, transport):
    client = socketio.Client(reconnection=False)
    for name in SERVER_EVENTS:
        client.on(name, lambda data=None, name=name: tell(name, data))
    client.on("disconnect", lambda reason=None: tell("disconnect", reason))
    client.connect(url, transports=[transport])
    tell("answer", client.call("join", feed, timeout=20))
    client.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
