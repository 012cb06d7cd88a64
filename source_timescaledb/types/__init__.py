"""PostgreSQL's types as Airbyte sees them: one definition for each, from which schema and rendering both follow."""
