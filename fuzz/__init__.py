"""Feeds the decoder of pgoutput millions of messages, whole, damaged and made up, and judges what it makes of them.

    seed and number --> session: messages of some transactions --encoded--> payloads
                                                                   |  |
                             each, and mutants of it, alone  <-----+  +-----> all in a row, some damaged or misplaced
                        decode == what was encoded, or refused               through the path of a sync, fast and plain
                        fast row == plain row                                 same lines, or the same refusal

What is made is fixed by the seed and the number of the session, so a complaint is played again by its number, or from
the file that was written of it (`--replay`).
"""
