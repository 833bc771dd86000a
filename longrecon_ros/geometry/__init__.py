"""Rigid and similarity transforms, their estimation, and the pinhole camera; numpy only."""
