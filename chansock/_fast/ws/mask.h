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

/* XOR `size` bytes in place with the 4-byte key (RFC 6455 section 5.3), of which `at`
 * bytes are used already: they stand `at` bytes behind the beginning of their payload.
 * Returns all the resulting bytes ORed together: no bit of CHANSOCK_HIGH_BITS is set
 * if and only if they are ASCII, which costs nothing here and saves a pass. */
static inline uint64_t
chansock_unmask(uint8_t *data, ptrdiff_t size, const uint8_t *key, ptrdiff_t at)
{
    uint8_t turned[4];
    uint32_t half;
    uint64_t words, word, seen = 0;
    ptrdiff_t i = 0;

    for (; i < 4; i++)
        turned[i] = key[(at + i) & 3];
    memcpy(&half, turned, 4);
    words = (uint64_t)half << 32 | half;
    for (i = 0; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        word ^= words;
        seen |= word;
        memcpy(data + i, &word, 8);
    }
    for (; i < size; i++) {
        data[i] ^= turned[i & 3];
        seen |= data[i];
    }
    return seen;
}

/* What may follow the first byte of a UTF-8 character (RFC 3629). */
typedef struct {
    uint8_t need;                   /* bytes to come; 0: no character is open */
    uint8_t low, high;              /* what the next of them may be */
} chansock_utf8;

/* What `lead` opens; 0 if no character of several bytes begins with it. */
static inline int
chansock_utf8_open(chansock_utf8 *open, uint8_t lead)
{
    open->low = 0x80;
    open->high = 0xBF;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;                   /* a lone continuation, an overlong form, past U+10FFFF */
    if (lead < 0xE0) {
        open->need = 1;
    } else if (lead < 0xF0) {
        open->need = 2;
        if (lead == 0xE0)
            open->low = 0xA0;       /* overlong */
        else if (lead == 0xED)
            open->high = 0x9F;      /* surrogates */
    } else {
        open->need = 3;
        if (lead == 0xF0)
            open->low = 0x90;       /* overlong */
        else if (lead == 0xF4)
            open->high = 0x8F;      /* past U+10FFFF */
    }
    return 1;
}

/* Length of the prefix that is made of whole UTF-8 characters, or -1 if a byte comes that
 * cannot stand there. What is behind the prefix is the beginning of a character whose end
 * may still come: at most 3 bytes. */
static inline ptrdiff_t
chansock_utf8_whole(const uint8_t *data, ptrdiff_t size)
{
    chansock_utf8 open;
    ptrdiff_t i = 0, k;
    uint64_t word;

    while (i < size) {
        if (data[i] < 0x80) {
            for (i++; i + 8 <= size; i += 8) {
                memcpy(&word, data + i, 8);
                if (word & CHANSOCK_HIGH_BITS)
                    break;
            }
            while (i < size && data[i] < 0x80)
                i++;
            continue;
        }
        if (!chansock_utf8_open(&open, data[i]))
            return -1;
        if (i + 1 == size)
            return i;
        if (data[i + 1] < open.low || data[i + 1] > open.high)
            return -1;
        for (k = 2; k <= open.need; k++) {
            if (i + k == size)
                return i;
            if ((data[i + k] & 0xC0) != 0x80)
                return -1;
        }
        i += 1 + open.need;
    }
    return i;
}

/* Check the next piece of a text that comes in pieces; `open` is what the last one left,
 * all zero before the first. 0 if a byte comes that cannot stand there. */
static inline int
chansock_utf8_feed(chansock_utf8 *open, const uint8_t *data, ptrdiff_t size)
{
    ptrdiff_t i = 0, whole;

    for (; open->need && i < size; i++) {
        if (data[i] < open->low || data[i] > open->high)
            return 0;
        open->need--;
        open->low = 0x80;
        open->high = 0xBF;
    }
    whole = chansock_utf8_whole(data + i, size - i);
    if (whole < 0)
        return 0;
    i += whole;
    if (i < size) {
        chansock_utf8_open(open, data[i]);
        if (i + 1 < size) {         /* what came of it was looked at */
            open->need -= (uint8_t)(size - i - 1);
            open->low = 0x80;
            open->high = 0xBF;
        }
    }
    return 1;
}

#endif
