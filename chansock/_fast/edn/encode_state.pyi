# One write under way: for the engine, by cimport.
