"""What is wrong with a database as a source, and how to mend it."""
