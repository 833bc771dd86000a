"""Stand-ins for ROS packages that wheels do not carry; the real ones are used where they are."""
