# edn_names.pyx offers nothing to Python; its face is the .pxd.
