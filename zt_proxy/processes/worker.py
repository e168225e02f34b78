"""What the supervisor starts as a worker, see `processes.worker_process`: nothing but this process's preparations."""

import sys

if __name__ == "__main__":
    # structlog draws tracebacks with rich where it finds it; here that is 4 MiB for nothing.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from zt_proxy.processes import worker_process

    worker_process.main()
