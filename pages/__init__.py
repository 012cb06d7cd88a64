"""What the pages in docs/ take from the code, so that neither can say what the other does not.

A page is written by hand, but for the parts between two marks, which `make docs` writes anew and a test compares with the
code. What a page quotes of the connector's sentences, and what it has of SQL and commands, is read from it and tried.

    reading    blocks of code, links and headings of a page; pure
    sentences  what the connector says when something is in the way, read from its source text
    types      the table of types, by the very definitions that render values
    settings   the table of settings, by the specification
    versions   the table of versions, by CHANGELOG.md
    written    the parts of a page between two marks; pure
    writing    which part of which page is made of what
"""
