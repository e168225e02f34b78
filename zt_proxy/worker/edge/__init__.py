"""Towards the clients: sockets, TLS, and the connection that turns bytes into requests and answers into bytes."""
