"""`python -m zt_proxy.processes control|worker FD`: what the supervisor starts, with one end of the leash."""

import importlib
import sys

from zt_proxy.processes import lean

if __name__ == "__main__":
    lean.without_rich()
    importlib.import_module(f"zt_proxy.processes.{sys.argv[1]}_process").main()
