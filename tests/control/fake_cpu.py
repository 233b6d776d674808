#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for bulkhead-cpu: answers everything on the primary channel, and misbehaves when the
machine's name (-name) asks for it. It lets control be tested without KVM.

  start=exit1|close|garbage|hang|slow   instead of answering machine-init
  refuse=COMMAND                         that command fails
  after=exit3|garbage|SHUTDOWN|PANIC|RESET|QUIT|DEBUGEXIT   once the guest "runs"
  quit=hang                              does not end when told to
"""
import array
import json
import os
import socket
import sys
import time


def main():
    channel = socket.socket(fileno=int(sys.argv[1]))
    name = sys.argv[sys.argv.index("-name") + 1]
    wishes = {}
    log = None
    status = "prelaunch"

    def send(message):
        channel.send(json.dumps(message).encode())

    def misbehave(how):
        if how == "exit1":
            print("fake-cpu: a sentence of its own", file=sys.stderr)
            sys.exit(1)
        if how == "exit3":
            sys.exit(3)
        if how == "close":
            channel.close()
            time.sleep(60)
        if how == "garbage":
            channel.send(b"this is no JSON")
            time.sleep(60)
        if how == "hang":
            time.sleep(600)
        if how == "slow":
            time.sleep(0.5)

    while True:
        data, ancillary, _, _ = channel.recvmsg(1 << 18, socket.CMSG_SPACE(64 * 4))
        if not data:
            return 0
        fds = array.array("i")
        for _, _, part in ancillary:
            fds.frombytes(part[:len(part) - len(part) % fds.itemsize])
        request = json.loads(data)
        command, args, number = request["execute"], request["arguments"], request["id"]
        if command == "machine-init":
            for wish in args.get("append", "").split():
                key, _, value = wish.partition("=")
                wishes[key] = value
            log = wishes.get("log")
            misbehave(wishes.get("start"))
        if log:
            with open(log, "a", encoding="utf-8") as f:
                f.write(json.dumps({"command": command, "args": args, "fds": len(fds)}) + "\n")
        if wishes.get("refuse") == command:
            send({"error": {"class": "GenericError", "desc": f"no {command} today"}, "id": number})
            continue
        if command in ("stop", "cont") and status == "shutdown":
            send({"error": {"class": "GenericError", "desc": "reset first"}, "id": number})
            continue
        if command in ("stop", "cont"):
            status = "paused" if command == "stop" else "running"
            send({"event": "STOP" if command == "stop" else "RESUME", "data": {}})
        if command == "quit" and wishes.get("quit") == "hang":
            time.sleep(600)
        answers = {"query-cpus-fast": [{"cpu-index": 0, "thread-id": os.getpid()}], "query-block": [],
                   "query-status": {"status": status, "running": status == "running",
                                    "singlestep": False},
                   "query-named-block-nodes": [], "qom-list": [],
                   "sandbox-info": {"policy": name, "steps": []}}
        send({"return": answers.get(command, {}), "id": number})
        if command == "quit":
            return 0
        if command == "system_powerdown":
            status = "shutdown"
            send({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}})
        if command == "system_reset":
            send({"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}})
        if command == "cont":
            after = wishes.get("after", "")
            misbehave(after)
            if after == "SHUTDOWN":
                send({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}})
            if after == "DEBUGEXIT":
                send({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown",
                                                    "exit-code": 33}})
            if after == "PANIC":
                send({"event": "GUEST_PANICKED", "data": {"action": "run"}})
            if after == "QUIT":
                send({"event": "QUIT_REQUESTED", "data": {}})


sys.exit(main())
