"""Places seen again: keyframes that find them, closures that prove them, a graph that bends."""
