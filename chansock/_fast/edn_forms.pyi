# The forms of edn to values: for the engine, by cimport; nothing for Python.
