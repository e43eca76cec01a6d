# Names as keys of maps to MessagePack: for the engine, by cimport.
