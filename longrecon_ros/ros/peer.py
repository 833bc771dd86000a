"""A node of this process that speaks with the SLAM node in another one: of replays and soaks."""

from contextlib import contextmanager
from typing import Iterator

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


@contextmanager
def peer(name: str) -> Iterator[Node]:
    """Yield a node; signals stay with this program."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node(name)
        try:
            yield node
        finally:
            leave(node)
    finally:
        rclpy.try_shutdown()


def leave(node: Node) -> None:
    """Destroy what others find of a node; the rest goes with its context or process.

    For a node whose peers may just have died: destroying all of it then has been seen to crash in
    the middleware (rclpy 7.1, Fast DDS 2.14).
    """
    for publisher in list(node.publishers):
        node.destroy_publisher(publisher)
    for subscription in list(node.subscriptions):
        node.destroy_subscription(subscription)
    for client in list(node.clients):
        node.destroy_client(client)
