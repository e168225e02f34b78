"""What the proxy costs, beside bare nginx on the same machine in the same minute.

Four figures, each with a gate, each in a file of `benchmarks.figures`:

    request    CPU time per authenticated GET of 1 KiB, over nginx's        ratio_nginx            <= 2.5
    download   bytes per CPU-second of a 10 MiB body, over nginx's          download_ratio         >= 0.7
    idle       resident memory per idle TLS keep-alive connection, KiB      idle_kib               <= 25
    routes     CPU time per request with 1,000 routes over that with 10     routes_1000_over_10    <= 1.10

How it fits together:

    __main__ ─► figures.* ─► rounds.interleave ─► measure.measure_load ─► wrk ─TLS─► proxy | nginx ─► upstream
                                                  └ CPU and RSS of the server's whole process tree, from /proc

CPU time is compared, not throughput: it does not change when the load generator or the upstream is the slower part.
`docs/performance.md` says how to repeat it and what was seen.
"""
