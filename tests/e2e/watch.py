"""Watches a feed with python-socketio and prints a JSON line for every event and for the join answer.

usage: watch.py URL FEED websocket|polling
"""

import json
import sys

import socketio

SERVER_EVENTS = ("imageUploaded", "imageRemoved", "joined", "problem", "left", "tokenExpiring", "reconnect")


def print_event(event, data=None):
    print(json.dumps({"event": event, "data": data}), flush=True)


def main(url, feed, transport):
    client = socketio.Client(reconnection=False)
    for name in SERVER_EVENTS:
        client.on(name, lambda data=None, name=name: print_event(name, data))
    client.on("disconnect", lambda reason=None: print_event("disconnect", reason))
    client.connect(url, transports=[transport])
    print_event("answer", client.call("join", feed, timeout=20))
    client.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
