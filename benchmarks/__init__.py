"""Times blurfft against its contenders: ``python -m benchmarks run``."""
