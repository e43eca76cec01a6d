# The state of a read of edn bytes: for the engine, by cimport; nothing for Python.
