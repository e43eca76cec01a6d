# edn numbers: for the engine, by cimport; nothing for Python.
