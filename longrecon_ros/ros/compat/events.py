"""Where rclpy keeps its event callbacks: it moved after Humble."""

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:
    from rclpy.qos_event import SubscriptionEventCallbacks

__all__ = ['SubscriptionEventCallbacks']
