# Strings and characters of edn: for the engine, by cimport; nothing for Python.
