"""A fuzzer for configs and data files: ``make test-fuzz``, or ``python -m fuzz --help`` with ``tests`` on the path."""
