"""What the library logs, on the log of the node."""

import logging

from rclpy.node import Node


class LogBridge(logging.Handler):
    """Passes records on; rclpy ties each line of code to one severity, hence a line for each."""

    def __init__(self, node: Node):
        super().__init__(logging.INFO)
        self._log = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.info(text)
