"""Somebody else's word: requests for it, who may give it, and what it opens."""
