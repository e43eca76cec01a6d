# Which keys a map or set of edn may have: for the engine, by cimport.
from typing import final

@final
class CollisionLimit: ...
