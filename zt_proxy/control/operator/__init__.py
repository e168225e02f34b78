"""What the operator of the machine may see and do while the proxy runs: a private unix socket, and nothing over TCP."""
