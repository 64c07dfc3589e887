"""Exploration without claims: cell-level correlation, metacells and the traps of both."""
