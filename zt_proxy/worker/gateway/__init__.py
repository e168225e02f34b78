"""The way of a request: one spine (`pipeline.handle`), a stage per file, and the only author of denials (`respond`)."""
