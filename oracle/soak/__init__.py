"""A soak: seeds of the oracle whose syncs are disturbed all the time, a thousand of them, on every edition.

It answers what an operator wants to know of a connector that runs unattended: how often it recovers with no help, and
what is lost or invented when it does.
"""
