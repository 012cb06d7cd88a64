"""What is logged leaves as LOG messages of the protocol: one event, one message, one line.

airbyte-cdk's formatter does the most of it; three things it leaves open.

- A text may have more than one line, because the server's messages and the names of relations may. Whoever reads logs
  line by line would take the rest for other events, and whoever can name a table could invent some. They are folded.
- Other packages log exceptions with their tracebacks, and the text of an exception may hold a row's values or a setting.
  Only the exception's class is told.
- With `--debug` it prints lines of another form, which are no protocol messages.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import orjson
from airbyte_cdk.logger import AirbyteLogFormatter
from airbyte_cdk.models import AirbyteLogMessage, AirbyteMessage, AirbyteMessageSerializer, Level, Type
from airbyte_cdk.utils.airbyte_secrets_utils import filter_secrets

_LINE_ENDS: Final = re.compile(r"[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
"""Whatever ends a line for somebody (`str.splitlines`), with the white space around it."""


class EventFormatter(AirbyteLogFormatter):
    """Formats each record of the log as one LOG message."""

    def format(self, record: logging.LogRecord) -> str:
        """The message as JSON."""
        text = _LINE_ENDS.sub(" ", record.getMessage()).strip()
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text} ({record.exc_info[0].__qualname__})"
        level = self.level_mapping.get(record.levelno, Level.INFO)
        message = AirbyteMessage(
            type=Type.LOG, log=AirbyteLogMessage(level=level, message=filter_secrets(text))
        )
        return orjson.dumps(AirbyteMessageSerializer.dump(message)).decode()


def tell_events_singly() -> None:
    """Let everything that this process logs leave in that form."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, AirbyteLogFormatter):
            handler.setFormatter(EventFormatter())
