"""Change data capture: what the write-ahead log says, under the names the user knows, every row version once."""
