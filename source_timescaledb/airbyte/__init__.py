"""The Airbyte protocol: catalogs in and out, messages, the record sink and the command line."""
