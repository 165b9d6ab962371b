"""Terms on how rows relate to each other."""
