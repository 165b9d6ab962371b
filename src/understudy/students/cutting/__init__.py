"""Students cut from a transformers model: fewer layers, channels, heads, units or sub-words, or a low rank."""
