"""From a setting to a connection, and from a statement to the connection that it is sent on.

From a setting to a connection: `options` and `dsn` read what a user writes. `pool` makes psqlpy's pool.
`addresses` asks the servers what psqlpy does not tell, and `failures` explains why there is no connection.
`lease` lends a connection and brings it back clean. `embedded` is the server to connect to where none is
named.

From a statement to a connection: `lanes` sends the package's own statements. `lane_set` chooses one of a few
connections for each (a `lane`), `retry` says what may be sent again, and `sources` says where connections
come from. `binary` has the values that go with a statement.
"""
