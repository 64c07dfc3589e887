"""Design matrices, contrasts, sample columns and permutations."""
