"""The snapshot: every row of a relation, slice by slice, each slice in one short transaction."""
