/* A keyword's name with its text, one to a cache line: the writers look one up for each key of each
 * map. Included by edn/writer.pxd alone. */
#ifndef CHANSOCK_KNOWN_H
#define CHANSOCK_KNOWN_H

#include <Python.h>
#include <stdint.h>

typedef struct
#if defined(__GNUC__)
__attribute__((aligned(64)))
#endif
{
    PyObject *name;
    uint32_t size;
    uint8_t text[52];
} chansock_known;

#endif
