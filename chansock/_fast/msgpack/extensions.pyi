# Sente's extensions of MessagePack: for the engine, by cimport.
