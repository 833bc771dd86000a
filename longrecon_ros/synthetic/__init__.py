"""Seeded synthetic worlds with exact images, depth, poses and intrinsics.

Worlds are z-up (REP-103 ``map``), lengths are metres, and ``T_world_camera`` has OpenCV camera
axes (x right, y down, z forward). Start at `worlds.make_world` and `stream.generate`.
"""
