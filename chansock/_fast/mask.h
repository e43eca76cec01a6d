/* The two loops over every payload byte: unmask, and check UTF-8.
 *
 * Plain C, so that the compiler turns the word loop into vector code. No Python object,
 * no allocation; sizes are bytes; the memory belongs to the caller. */

#ifndef CHANSOCK_MASK_H
#define CHANSOCK_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CHANSOCK_HIGH_BITS UINT64_C(0x8080808080808080)

/* XOR `size` bytes in place with the 4-byte key (RFC 6455 section 5.3).
 * Returns all the resulting bytes ORed together: no bit of CHANSOCK_HIGH_BITS is set
 * if and only if the payload is ASCII, which costs nothing here and saves a pass. */
static inline uint64_t
chansock_unmask(uint8_t *data, ptrdiff_t size, const uint8_t *key)
{
    uint8_t pair[8];
    uint64_t words, word, seen = 0;
    ptrdiff_t i = 0;

    memcpy(pair, key, 4);
    memcpy(pair + 4, key, 4);
    memcpy(&words, pair, 8);
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        word ^= words;
        seen |= word;
        memcpy(data + i, &word, 8);
    }
    for (; i < size; i++) {
        data[i] ^= key[i & 3];
        seen |= data[i];
    }
    return seen;
}

/* Length of the prefix that is made of whole UTF-8 characters (RFC 3629), or -1 if a
 * byte comes that cannot stand there. What is behind the prefix is the beginning of a
 * character whose end may still come: at most 3 bytes. */
static inline ptrdiff_t
chansock_utf8_whole(const uint8_t *data, ptrdiff_t size)
{
    ptrdiff_t i = 0;
    uint64_t word;

    while (i < size) {
        uint8_t lead = data[i], low = 0x80, high = 0xBF;
        ptrdiff_t need, k;

        if (lead < 0x80) {
            for (i++; i + 8 <= size; i += 8) {
                memcpy(&word, data + i, 8);
                if (word & CHANSOCK_HIGH_BITS)
                    break;
            }
            while (i < size && data[i] < 0x80)
                i++;
            continue;
        }
        if (lead < 0xC2 || lead > 0xF4)
            return -1;              /* a lone continuation, an overlong form, past U+10FFFF */
        if (lead < 0xE0) {
            need = 2;
        } else if (lead < 0xF0) {
            need = 3;
            if (lead == 0xE0)
                low = 0xA0;         /* overlong */
            else if (lead == 0xED)
                high = 0x9F;        /* surrogates */
        } else {
            need = 4;
            if (lead == 0xF0)
                low = 0x90;         /* overlong */
            else if (lead == 0xF4)
                high = 0x8F;        /* past U+10FFFF */
        }
        if (i + 1 == size)
            return i;
        if (data[i + 1] < low || data[i + 1] > high)
            return -1;
        for (k = 2; k < need; k++) {
            if (i + k == size)
                return i;
            if ((data[i + k] & 0xC0) != 0x80)
                return -1;
        }
        i += need;
    }
    return i;
}

#endif
