# The edn spelling of single values: for the engine, by cimport; nothing for Python.
