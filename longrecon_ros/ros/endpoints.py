"""What the publishers of a topic offer, and the quality of service that takes from all of them."""

from dataclasses import dataclass
from typing import Iterable, List, Sequence, Tuple

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy


@dataclass(frozen=True, slots=True)
class Offer:
    """One publisher of a topic."""

    node: str
    """Its node, with the namespace."""
    kind: str = 'sensor_msgs/msg/Image'
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE


@dataclass(frozen=True, slots=True)
class Request:
    """What a subscription asks for."""

    reliability: ReliabilityPolicy = ReliabilityPolicy.BEST_EFFORT
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE


def offers_of(node: Node, topic: str) -> Tuple[Offer, ...]:
    """Return the publishers of a topic that are known by now, of all types."""
    return tuple(
        Offer(f'{info.node_namespace.rstrip("/")}/{info.node_name}', info.topic_type,
              info.qos_profile.reliability, info.qos_profile.durability)
        for info in node.get_publishers_info_by_topic(topic))


def unmatched(request: Request, offer: Offer) -> List[str]:
    """Return the policies of a request that an offer does not meet (DDS 1.4, 2.2.3)."""
    found = []
    if request.reliability == ReliabilityPolicy.RELIABLE != offer.reliability:
        found.append('reliability')
    if request.durability == DurabilityPolicy.TRANSIENT_LOCAL != offer.durability:
        found.append('durability')
    return found


def choose_qos(offers: Sequence[Offer]) -> Tuple[ReliabilityPolicy, DurabilityPolicy, str]:
    """Return the strongest (reliability, durability) that all publishers offer, and why.

    Whatever one publisher does not offer cannot be asked for, or nothing comes from it. Without a
    publisher these are best effort and volatile, which match every one.
    """
    if not offers:
        return (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE,
                'best effort, volatile: there is no publisher yet, and these match any')
    weak = [offer.node for offer in offers if offer.reliability != ReliabilityPolicy.RELIABLE]
    brief = [offer.node for offer in offers
             if offer.durability != DurabilityPolicy.TRANSIENT_LOCAL]
    if weak:
        reliability, first = ReliabilityPolicy.BEST_EFFORT, \
            f'best effort: {names(weak)} offers no more'
    else:
        reliability, first = ReliabilityPolicy.RELIABLE, 'reliable: all publishers offer it'
    if brief:
        return reliability, DurabilityPolicy.VOLATILE, f'{first}; volatile'
    return (reliability, DurabilityPolicy.TRANSIENT_LOCAL,
            f'{first}; transient local: what was sent before is kept for us')


def names(nodes: Iterable[str]) -> str:
    """Return names of nodes for a sentence, each once."""
    return ', '.join(sorted(set(nodes)))
