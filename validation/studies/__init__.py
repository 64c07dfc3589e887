"""One module a study: a claim, a grid, a seed, and a function that runs one cell of the grid."""
