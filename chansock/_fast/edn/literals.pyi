# The text of #inst and #uuid to their values: for the engine, by cimport.
