"""Reading, validation and aggregation of raw counts."""
