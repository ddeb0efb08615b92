"""IFSF dispenser application over UDP heartbeats and TCP: a pure codec, no sockets and no clock."""
