"""Terms on what layers hold."""
