"""One arm against another over budgets of unique tokens, and where their curves cross."""
