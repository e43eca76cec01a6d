/* MessagePack's heads and numbers, put and taken: the widths are those that Sente writes.
 *
 * Plain C. No Python object, no allocation; each put writes at most nine bytes at `at` and
 * returns the place behind them. */

#ifndef CHANSOCK_MSGPACK_H
#define CHANSOCK_MSGPACK_H

#include <stdint.h>
#include <string.h>

/* -- big-endian numbers -- */

static inline uint32_t
chansock_two(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t
chansock_four(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t
chansock_eight(const uint8_t *p)
{
    return (uint64_t)chansock_four(p) << 32 | chansock_four(p + 4);
}

static inline double
chansock_float(const uint8_t *p)
{
    uint32_t bits = chansock_four(p);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline double
chansock_double(const uint8_t *p)
{
    uint64_t bits = chansock_eight(p);
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static inline uint8_t *
chansock_put_two(uint8_t *at, uint32_t n)
{
    at[0] = (uint8_t)(n >> 8);
    at[1] = (uint8_t)n;
    return at + 2;
}

static inline uint8_t *
chansock_put_four(uint8_t *at, uint32_t n)
{
    at[0] = (uint8_t)(n >> 24);
    at[1] = (uint8_t)(n >> 16);
    at[2] = (uint8_t)(n >> 8);
    at[3] = (uint8_t)n;
    return at + 4;
}

static inline uint8_t *
chansock_put_eight(uint8_t *at, uint64_t n)
{
    return chansock_put_four(chansock_put_four(at, (uint32_t)(n >> 32)), (uint32_t)n);
}

/* -- values -- */

static inline uint8_t *
chansock_put_integer(uint8_t *at, int64_t n)
{
    if (n >= -32 && n < 128) {
        *at = (uint8_t)n;
        return at + 1;
    }
    if (n >= 0 ? n <= 0xFF : n >= -0x80) {
        at[0] = n >= 0 ? 0xCC : 0xD0;
        at[1] = (uint8_t)n;
        return at + 2;
    }
    if (n >= 0 ? n <= 0xFFFF : n >= -0x8000) {
        at[0] = n >= 0 ? 0xCD : 0xD1;
        return chansock_put_two(at + 1, (uint32_t)n);
    }
    if (n >= 0 ? n <= 0xFFFFFFFF : n >= -INT64_C(0x80000000)) {
        at[0] = n >= 0 ? 0xCE : 0xD2;
        return chansock_put_four(at + 1, (uint32_t)n);
    }
    at[0] = 0xD3;
    return chansock_put_eight(at + 1, (uint64_t)n);
}

static inline uint8_t *
chansock_put_float(uint8_t *at, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    at[0] = 0xCB;
    return chansock_put_eight(at + 1, bits);
}

/* -- heads; a size is at most 2^32 - 1 -- */

/* Of bytes, a long string or an extension: `code` has one byte of size, the next ones more. */
static inline uint8_t *
chansock_put_data_head(uint8_t *at, ptrdiff_t size, uint8_t code)
{
    if (size <= 0xFF) {
        at[0] = code;
        at[1] = (uint8_t)size;
        return at + 2;
    }
    if (size <= 0xFFFF) {
        at[0] = (uint8_t)(code + 1);
        return chansock_put_two(at + 1, (uint32_t)size);
    }
    at[0] = (uint8_t)(code + 2);
    return chansock_put_four(at + 1, (uint32_t)size);
}

static inline uint8_t *
chansock_put_text_head(uint8_t *at, ptrdiff_t size)
{
    if (size < 32) {
        *at = (uint8_t)(0xA0 | size);
        return at + 1;
    }
    return chansock_put_data_head(at, size, 0xD9);
}

/* Of an array, 0x90 and 0xDC, or a map, 0x80 and 0xDE. */
static inline uint8_t *
chansock_put_head(uint8_t *at, ptrdiff_t size, uint8_t fixed, uint8_t code)
{
    if (size < 16) {
        *at = (uint8_t)(fixed | size);
        return at + 1;
    }
    if (size <= 0xFFFF) {
        at[0] = code;
        return chansock_put_two(at + 1, (uint32_t)size);
    }
    at[0] = (uint8_t)(code + 1);
    return chansock_put_four(at + 1, (uint32_t)size);
}

static inline uint8_t *
chansock_put_extension_head(uint8_t *at, ptrdiff_t size, int kind)
{
    if (size > 0 && size <= 16 && (size & (size - 1)) == 0)
        *at++ = (uint8_t)(0xD4 + (size > 1) + (size > 2) + (size > 4) + (size > 8));
    else
        at = chansock_put_data_head(at, size, 0xC7);
    *at = (uint8_t)kind;
    return at + 1;
}

/* Whether all bytes are ASCII. */
static inline int
chansock_is_ascii(const uint8_t *p, ptrdiff_t size)
{
    uint64_t word, high;
    uint8_t byte = 0;

    if (size < 8) {
        while (size > 0)
            byte |= p[--size];
        return byte < 0x80;
    }
    memcpy(&high, p + size - 8, 8);
    for (; size > 8; p += 8, size -= 8) {
        memcpy(&word, p, 8);
        high |= word;
    }
    return (high & UINT64_C(0x8080808080808080)) == 0;
}

#endif
