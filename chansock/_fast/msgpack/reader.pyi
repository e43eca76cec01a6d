# Sente's MessagePack to values: for the engine, by cimport.
