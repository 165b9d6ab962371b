"""Small students that are built for speed, one family a file."""
