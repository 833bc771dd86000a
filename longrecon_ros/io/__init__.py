"""Images in, trajectories and clouds out."""
