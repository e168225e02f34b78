"""Locks: who and what may do less than the rules allow, for now. See `control.locks.manager`."""
