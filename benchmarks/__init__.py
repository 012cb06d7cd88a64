"""What the connector costs, beside what it is compared with, measured in one run on one machine.

A rate alone says more about the machine than about the program. So everything here is a ratio: the same table is read by
`psql COPY ... TO STDOUT`, by the connector and by a source written with airbyte-cdk as its documentation shows, in turns,
into the same kind of pipe, and each round gives one ratio. The median of the ratios is reported, with their range.

    costs         what a run took, ratios and medians; pure
    stopwatch     a small process of its own that runs one command and reports on it
    measuring     runs a command, drains its output, adds what the server spent
    tables        the tables that are read
    contenders    who reads them: psql, the connector, `stock_source`
    snapshot      part one: contests over four kinds of rows
    chunks        part two: what many chunks cost, and one huge one
    surroundings  versions, machine and date
    report, plot  what the reader sees
"""
