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

/* What stands behind the backslash; 0: the character stands as it is. */
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

/* `size` bytes of ASCII, escaped, to `at`, where twice as many and CHANSOCK_QUOTE_ROOM are free;
 * returns the place behind them. The seven bytes before `data` are read: a str's head lies there. */
static inline uint8_t *
chansock_escape(uint8_t *at, const uint8_t *data, ptrdiff_t size)
{
    uint64_t word, found;
    int plain;

#ifdef __SSE2__
    while (size >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)data);
        __m128i low = _mm_sub_epi8(block, _mm_set1_epi8(8));
        __m128i special = _mm_cmpeq_epi8(_mm_min_epu8(low, _mm_set1_epi8(5)), low);

        special = _mm_or_si128(special, _mm_cmpeq_epi8(block, _mm_set1_epi8('"')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
        _mm_storeu_si128((__m128i *)at, block);
        found = (uint64_t)_mm_movemask_epi8(special);
        if (found == 0) {
            data += 16;
            at += 16;
            size -= 16;
            continue;
        }
        plain = __builtin_ctzll(found);
        at = chansock_escape_byte(at + plain, data[plain]);
        data += plain + 1;
        size -= plain + 1;
    }
#endif
    while (size > 0) {
        if (size >= 8) {
            memcpy(&word, data, 8);
        } else {
            memcpy(&word, data + size - 8, 8);
            word >>= 64 - 8 * size;
        }
        memcpy(at, &word, 8);
        found = chansock_specials(word);
        if (found == 0) {
            plain = size < 8 ? (int)size : 8;
            data += plain;
            at += plain;
            size -= plain;
            continue;
        }
        plain = __builtin_ctzll(found) / 8;
        at = chansock_escape_byte(at + plain, data[plain]);
        data += plain + 1;
        size -= plain + 1;
    }
    return at;
}

#else

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

/* `size` code points of `width` bytes each; up to six bytes are needed for each of them. */
static inline uint8_t *
chansock_escape_wide(uint8_t *at, const void *data, int width, ptrdiff_t size)
{
#define CHANSOCK_EACH(type) \
    for (const type *p = (const type *)data, *end = p + size; p < end; p++) \
        at = *p < 0x80 ? chansock_escape_byte(at, (uint8_t)*p) : chansock_put_point(at, *p)

    if (width == 1) {
        CHANSOCK_EACH(uint8_t);
    } else if (width == 2) {
        CHANSOCK_EACH(uint16_t);
    } else {
        CHANSOCK_EACH(uint32_t);
    }
#undef CHANSOCK_EACH
    return at;
}

#endif
