"""Which factor earns the gain: Shapley values, main effects and interactions over the eight corners."""
