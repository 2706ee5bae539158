"""Live video: worlds that people walk through, over HTTP and a WebSocket.

`protocol.py` says what goes over the wire (docs/protocol.md explains it), `checks.py` what its fields may hold;
`live.py` is the one loop that steps all streams; `steering.py` makes camera motion of keys and `path.py` of words;
`pictures.py` reads and encodes pictures. `connection.py` is one client and what it asks for, `sender.py` what it is
sent, `outlet.py` one stream on its way there, `world.py` what is told of the world, `server.py` the application around
them, `safety.py` who may talk to it, `keep.py` what survives a kill and `store.py` its files. `client.py` is a client
in Python. `play.py` and `generate.py` are the two commands, `page.html` is what a browser shows.
"""
