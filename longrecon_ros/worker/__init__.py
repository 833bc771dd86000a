"""The process that owns backbone and map, and what another one needs to feed and watch it.

No ROS here: the interpreter of the worker may be one of a virtual environment that has torch and
no rclpy. `supervisor` starts it and starts it again, `stream` says which images it gets, `process`
is what runs in it, `session` what it does. Images go through shared memory (`ring`), all else over
a socket (`wire`).
"""
