"""What is kept of the aligned windows: submaps, a bounded cloud, and all poses."""
