"""From a setting to a connection, and from a statement to the connection that it is sent on.

What a user writes is read by `options` and `dsn`. `knock` asks why a server does not let us in, `lease`
brings a lent connection back clean. `lanes` sends the package's own statements, by `lane_set` on few
connections, again as `retry` allows, on whatever `sources` takes them from; `binary` has the values that go
with a statement. `embedded` is the server to connect to where none is named.
"""
