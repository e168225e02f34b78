"""The browsers a person signs in with, and the word they get when there is a new one.

A known device is a note, not a credential: its cookie lets nobody in, and without it nobody is shut out.
"""
