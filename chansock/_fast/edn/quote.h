/* The text between the quotes of an edn string: UTF-8 with the seven escapes of Clojure's printer.
 *
 * Plain C. No Python object, no allocation. Each function puts text at `at` and returns the place
 * behind it. CHANSOCK_PORTABLE leaves out what needs more than C99. */

#ifndef CHANSOCK_QUOTE_H
#define CHANSOCK_QUOTE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that may be scribbled on behind an escaped text, over twice its size. */
#define CHANSOCK_QUOTE_ROOM 16

#if !defined(CHANSOCK_PORTABLE) && defined(__GNUC__) && defined(__BYTE_ORDER__)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CHANSOCK_QUOTE_WORDS
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#endif
#endif

/* The character behind the backslash; 0: the character needs no escape. */
static const uint8_t chansock_escapes[128] = {
    ['"'] = '"', ['\\'] = '\\', ['\n'] = 'n', ['\t'] = 't', ['\r'] = 'r', ['\f'] = 'f',
    ['\b'] = 'b',
};

static inline uint8_t *
chansock_escape_byte(uint8_t *at, uint8_t byte)
{
    uint8_t letter = chansock_escapes[byte];

    at[0] = '\\';
    at += letter != 0;
    *at++ = letter ? letter : byte;
    return at;
}

#ifdef CHANSOCK_QUOTE_WORDS

#define CHANSOCK_ONES UINT64_C(0x0101010101010101)

/* The high bit of each byte that is a quote, a backslash or from 8 to 13. ASCII: no carries. */
static inline uint64_t
chansock_specials(uint64_t word)
{
    uint64_t quotes = (word ^ '"' * CHANSOCK_ONES) + 0x7F * CHANSOCK_ONES;
    uint64_t slashes = (word ^ '\\' * CHANSOCK_ONES) + 0x7F * CHANSOCK_ONES;
    uint64_t from = word + (0x80 - 8) * CHANSOCK_ONES, past = word + (0x80 - 14) * CHANSOCK_ONES;

    return (~(quotes & slashes) | (from & ~past)) & 0x80 * CHANSOCK_ONES;
}

/* `size` bytes of ASCII, escaped, to `at`, where twice as many and CHANSOCK_QUOTE_ROOM are free.
 * The seven bytes before `data` are read: a str's head lies there. A block with something to
 * escape is gone through byte by byte, since it seldom has but one such byte. */
static inline uint8_t *
chansock_escape(uint8_t *at, const uint8_t *data, ptrdiff_t size)
{
    uint64_t word;
    int i, part;

#ifdef __SSE2__
    for (; size >= 16; size -= 16, data += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)data);
        __m128i low = _mm_sub_epi8(block, _mm_set1_epi8(8));
        __m128i special = _mm_cmpeq_epi8(_mm_min_epu8(low, _mm_set1_epi8(5)), low);
        unsigned found;

        special = _mm_or_si128(special, _mm_cmpeq_epi8(block, _mm_set1_epi8('"')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
        _mm_storeu_si128((__m128i *)at, block);
        found = (unsigned)_mm_movemask_epi8(special);
        if (found == 0) {
            at += 16;
            continue;
        }
        i = __builtin_ctz(found);
        for (at += i; i < 16; i++)
            at = chansock_escape_byte(at, data[i]);
    }
#endif
    for (; size > 0; size -= part, data += part) {
        part = 8;
        if (size < 8) {
            part = (int)size;
            memcpy(&word, data + part - 8, 8);
            word >>= 64 - 8 * part;
        } else {
            memcpy(&word, data, 8);
        }
        memcpy(at, &word, 8);
        if (chansock_specials(word) == 0) {
            at += part;
            continue;
        }
        for (i = 0; i < part; i++)
            at = chansock_escape_byte(at, data[i]);
    }
    return at;
}

/* Whether the next eight code points are ASCII and stand as they are; if so, they are put. */
static inline int
chansock_put_eight(uint8_t *at, const uint8_t *data, int width)
{
    uint64_t word = 0;

    if (width == 1) {
        memcpy(&word, data, 8);
        if (word & 0x80 * CHANSOCK_ONES)
            return 0;
    } else {
#ifdef __SSE2__
        __m128i first = _mm_loadu_si128((const __m128i *)data), high;

        if (width == 2) {
            high = _mm_and_si128(first, _mm_set1_epi16((short)0xFF80));
        } else {
            __m128i second = _mm_loadu_si128((const __m128i *)(data + 16));
            high = _mm_and_si128(_mm_or_si128(first, second), _mm_set1_epi32((int)0xFFFFFF80));
            first = _mm_packs_epi32(first, second);
        }
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(high, _mm_setzero_si128())) != 0xFFFF)
            return 0;
        first = _mm_packus_epi16(first, first);
        memcpy(&word, &first, 8);
#else
        return 0;
#endif
    }
    memcpy(at, &word, 8);
    return chansock_specials(word) == 0;
}

#else

static inline int
chansock_put_eight(uint8_t *at, const uint8_t *data, int width)
{
    (void)at;
    (void)data;
    (void)width;
    return 0;
}

static inline uint8_t *
chansock_escape(uint8_t *at, const uint8_t *data, ptrdiff_t size)
{
    for (; size > 0; size--)
        at = chansock_escape_byte(at, *data++);
    return at;
}

#endif

/* A code point past ASCII as UTF-8; half a surrogate pair, which has none, as `\ud83d`. */
static inline uint8_t *
chansock_put_point(uint8_t *at, uint32_t point)
{
    static const char hexadecimal[] = "0123456789abcdef";

    if (point < 0x800) {
        *at++ = (uint8_t)(0xC0 | point >> 6);
    } else if (point - 0xD800 < 0x800) {
        at[0] = '\\';
        at[1] = 'u';
        at[2] = 'd';
        at[3] = (uint8_t)hexadecimal[point >> 8 & 15];
        at[4] = (uint8_t)hexadecimal[point >> 4 & 15];
        at[5] = (uint8_t)hexadecimal[point & 15];
        return at + 6;
    } else {
        if (point < 0x10000) {
            *at++ = (uint8_t)(0xE0 | point >> 12);
        } else {
            *at++ = (uint8_t)(0xF0 | point >> 18);
            *at++ = (uint8_t)(0x80 | (point >> 12 & 0x3F));
        }
        *at++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
    }
    *at++ = (uint8_t)(0x80 | (point & 0x3F));
    return at;
}

/* `size` code points of `width` bytes each; six bytes for each of them are free. */
static inline uint8_t *
chansock_escape_wide(uint8_t *at, const void *text, int width, ptrdiff_t size)
{
    const uint8_t *data = (const uint8_t *)text, *end = data + size * width;
    uint32_t point;
    int i;

    while (data < end) {
        i = 8;
        if (end - data < 8 * width) {
            i = 1;
        } else if (chansock_put_eight(at, data, width)) {
            at += 8;
            data += 8 * width;
            continue;
        }
        for (; i > 0; i--, data += width) {
            if (width == 1)
                point = *data;
            else if (width == 2)
                point = *(const uint16_t *)data;
            else
                point = *(const uint32_t *)data;
            at = point < 0x80 ? chansock_escape_byte(at, (uint8_t)point)
                              : chansock_put_point(at, point);
        }
    }
    return at;
}

#endif
