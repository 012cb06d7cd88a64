"""What a sync remembers, and how it is written down."""
