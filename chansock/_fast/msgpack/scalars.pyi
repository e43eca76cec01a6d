# One value to its MessagePack: for the engine, by cimport.
