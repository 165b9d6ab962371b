"""Terms on what models answer: softened labels, logits, scores."""
