"""What stands between a permitted request and too much of it."""
