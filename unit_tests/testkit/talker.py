"""A small program that speaks the protocol, to be started or forked."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def talk() -> None:
    arguments = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=False))
    config = json.loads(Path(arguments["--config"]).read_text())
    ballast = bytearray(config.get("ballast", 0))
    for value in range(config.get("records", 0)):
        record = {"stream": "a", "namespace": "public", "data": {"value": value}, "emitted_at": 1}
        say(json.dumps({"type": "RECORD", "record": record}) + "\n")
        time.sleep(config.get("pause", 0))
    say(config.get("last", ""))
    sys.stderr.write("the end\n")
    del ballast
    sys.exit(config.get("exit_code", 0))


def tell_surroundings() -> None:
    said = f"{os.environ['CANARY']} {Path.cwd()}"
    say(json.dumps({"type": "LOG", "log": {"level": "INFO", "message": said}}) + "\n")


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    talk()
