"""Terms on where models look."""
