"""Sessions and pending logins: the store, and the one authority over it."""
