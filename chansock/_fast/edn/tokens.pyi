# Names of edn: for the engine, by cimport; nothing for Python.
