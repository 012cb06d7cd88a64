"""A day of a production database in minutes, followed from its beginning to its end.

Chunks of seconds instead of hours, and all that a server does by itself every second instead of every hour: chunks are
compressed, late rows and corrections reach them afterwards, an aggregate is refreshed, old chunks are dropped. Syncs run
back to back with all of it. When the policies have ended and a last sync has run, each destination must hold what the
source holds; only what retention dropped, which names no rows, may be there still.
"""
