/* The loops over every byte of edn text: how far a name, a string and a run of digits go.
 *
 * Plain C. No Python object, no allocation; nothing before `start` or from `end` on is read:
 * 16 bytes at a time with SSE2, 8 with any little-endian gcc or clang, else 1, as with
 * CHANSOCK_PORTABLE. */

#ifndef CHANSOCK_SCAN_H
#define CHANSOCK_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(CHANSOCK_PORTABLE) && defined(__GNUC__) && defined(__BYTE_ORDER__)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CHANSOCK_SCAN_WORDS 1
#if defined(__SSE2__)
#define CHANSOCK_SCAN_SSE2 1
#include <emmintrin.h>
#endif
#endif
#endif

/* What a byte is in edn, Clojure's reader being the judge; the names are in edn/tokens.pxd. */
static const uint8_t chansock_kinds[256] = {
    0,0,0,0,0,0,0,0,0,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,
    1,0,2,0,0,0,0,0,2,2,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,0,0,0,0,
    3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,2,2,2,0,
    3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,0,2,3,0,
    4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
    4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
    4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
    4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4
};

#ifdef CHANSOCK_SCAN_WORDS

/* The first 0 to 16 bytes of two words. */
#define CHANSOCK_MASK(i) \
    {(i) > 7 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * ((i) & 7))) - 1, \
     (i) > 15 ? ~UINT64_C(0) : (i) > 7 ? (UINT64_C(1) << (8 * ((i) & 7))) - 1 : 0}
static const uint64_t chansock_masks[17][2] = {
    CHANSOCK_MASK(0), CHANSOCK_MASK(1), CHANSOCK_MASK(2), CHANSOCK_MASK(3),
    CHANSOCK_MASK(4), CHANSOCK_MASK(5), CHANSOCK_MASK(6), CHANSOCK_MASK(7),
    CHANSOCK_MASK(8), CHANSOCK_MASK(9), CHANSOCK_MASK(10), CHANSOCK_MASK(11),
    CHANSOCK_MASK(12), CHANSOCK_MASK(13), CHANSOCK_MASK(14), CHANSOCK_MASK(15),
    CHANSOCK_MASK(16)
};
#undef CHANSOCK_MASK

#endif

#ifdef CHANSOCK_SCAN_SSE2

/* A bit for each byte that may end a name: all that do, and `|`, DEL and 0x01 to 0x1B,
 * which the table then clears. */
static inline unsigned
chansock_name_ends(__m128i v)
{
    __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20)); /* [\]^ as {|}~, and @ as ` */
    __m128i ends = _mm_cmplt_epi8(v, _mm_set1_epi8(0x21)); /* blanks; high bytes are negative */
    ends = _mm_or_si128(ends, _mm_cmpgt_epi8(folded, _mm_set1_epi8(0x7A)));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(folded, _mm_set1_epi8(0x60)));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(v, _mm_set1_epi8(',')));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(v, _mm_set1_epi8(';')));
    ends = _mm_or_si128(
        ends, _mm_cmpeq_epi8(_mm_and_si128(v, _mm_set1_epi8((char)0xFE)), _mm_set1_epi8('(')));
    return (unsigned)_mm_movemask_epi8(ends);
}

/* A bit for each quote, backslash and high byte. */
static inline unsigned
chansock_string_ends(__m128i v)
{
    __m128i ends = _mm_or_si128(
        _mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(ends, v));
}

#endif

/* Behind the run of bytes that belong to a name or number (kind 0). */
static inline const uint8_t *
chansock_name_end(const uint8_t *start, const uint8_t *p, const uint8_t *end)
{
#ifdef CHANSOCK_SCAN_SSE2
    while (end - p >= 16) {
        unsigned ends = chansock_name_ends(_mm_loadu_si128((const __m128i *)p));
        if (ends) {
            p += __builtin_ctz(ends);
            if (chansock_kinds[*p])
                return p;
            p++;
        }
        else {
            p += 16;
        }
    }
    if (end - start >= 16) { /* the last 16 bytes; those before p are shifted out */
        unsigned ends = chansock_name_ends(_mm_loadu_si128((const __m128i *)(end - 16)));
        p += __builtin_ctz((ends >> (16 - (end - p))) | 1u << (end - p));
    }
#else
    (void)start;
#endif
    while (p < end && chansock_kinds[*p] == 0)
        p++;
    return p;
}

/* The first quote, backslash or high byte from p on, or the end. */
static inline const uint8_t *
chansock_string_end(const uint8_t *start, const uint8_t *p, const uint8_t *end)
{
#ifdef CHANSOCK_SCAN_SSE2
    while (end - p >= 16) {
        unsigned ends = chansock_string_ends(_mm_loadu_si128((const __m128i *)p));
        if (ends)
            return p + __builtin_ctz(ends);
        p += 16;
    }
    if (end - start >= 16) {
        unsigned ends = chansock_string_ends(_mm_loadu_si128((const __m128i *)(end - 16)));
        return p + __builtin_ctz((ends >> (16 - (end - p))) | 1u << (end - p));
    }
#elif defined(CHANSOCK_SCAN_WORDS)
    while (end - p >= 8) {
        const uint64_t ones = UINT64_C(0x0101010101010101);
        uint64_t word, quote, slash;
        memcpy(&word, p, 8);
        quote = word ^ (ones * '"');
        slash = word ^ (ones * '\\');
        if ((word | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & (ones << 7))
            break;
        p += 8;
    }
#endif
    (void)start;
    while (p < end && *p != '"' && *p != '\\' && *p < 0x80)
        p++;
    return p;
}

/* The `size` bytes at p, 1 to 16, as two words filled up with zeros. */
static inline void
chansock_words(
    const uint8_t *start, const uint8_t *p, ptrdiff_t size, const uint8_t *end,
    uint64_t *low, uint64_t *high)
{
#ifdef CHANSOCK_SCAN_WORDS
    if (end - p >= 16) {
        memcpy(low, p, 8);
        memcpy(high, p + 8, 8);
        *low &= chansock_masks[size][0];
        *high &= chansock_masks[size][1];
        return;
    }
    if (size > 8) {
        memcpy(low, p, 8);
        memcpy(high, p + size - 8, 8);
        *high >>= 8 * (16 - size);
        return;
    }
    if (p + size - start >= 8) { /* what precedes is shifted out */
        memcpy(low, p + size - 8, 8);
        *low >>= 8 * (8 - size);
        *high = 0;
        return;
    }
#endif
    {
        uint8_t bytes[16] = {0};
        (void)start;
        (void)end;
        memcpy(bytes, p, (size_t)size);
        memcpy(low, bytes, 8);
        memcpy(high, bytes + 8, 8);
    }
}

/* Whether the name at p is the one of these words and `size` bytes; 0 if it may be another. */
static inline int
chansock_is_name(
    const uint8_t *p, const uint8_t *end, uint64_t low, uint64_t high, ptrdiff_t size)
{
#ifdef CHANSOCK_SCAN_WORDS
    uint64_t words[2];
    if (end - p <= 16 || size > 16)
        return 0;
    memcpy(words, p, 16);
    return (((words[0] & chansock_masks[size][0]) ^ low)
            | ((words[1] & chansock_masks[size][1]) ^ high)) == 0
           && (uint8_t)(chansock_kinds[p[size]] - 1) < 2;
#else
    (void)p, (void)end, (void)low, (void)high, (void)size;
    return 0;
#endif
}

/* Append the run of ASCII digits at p to *value, modulo 2^64. Returns behind the run.
 * A branch for each digit: lengths that repeat are predicted, and short ones cost little. */
static inline const uint8_t *
chansock_digits(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint64_t sum = *value;
    unsigned digit;

#define CHANSOCK_DIGIT(i)           \
    digit = p[i] - (unsigned)'0';       \
    if (digit > 9) {                    \
        *value = sum;                   \
        return p + (i);                 \
    }                                   \
    sum = sum * 10 + digit;
    if (end - p >= 19) {
        CHANSOCK_DIGIT(0)
        CHANSOCK_DIGIT(1)
        CHANSOCK_DIGIT(2)
        CHANSOCK_DIGIT(3)
        CHANSOCK_DIGIT(4)
        CHANSOCK_DIGIT(5)
        CHANSOCK_DIGIT(6)
        CHANSOCK_DIGIT(7)
        CHANSOCK_DIGIT(8)
        CHANSOCK_DIGIT(9)
        CHANSOCK_DIGIT(10)
        CHANSOCK_DIGIT(11)
        CHANSOCK_DIGIT(12)
        CHANSOCK_DIGIT(13)
        CHANSOCK_DIGIT(14)
        CHANSOCK_DIGIT(15)
        CHANSOCK_DIGIT(16)
        CHANSOCK_DIGIT(17)
        CHANSOCK_DIGIT(18)
        p += 19;
    }
#undef CHANSOCK_DIGIT
    while (p < end && *p >= '0' && *p <= '9')
        sum = sum * 10 + (uint64_t)(*p++ - '0');
    *value = sum;
    return p;
}

/* The double nearest to value * 5^q * 2^q, where 5^q lies from (high, low) * 2^-scale up to
 * one unit of low more. Returns 0 if that does not settle it: a tie, or near to one, or a
 * double that is subnormal or infinite. value is not 0. */
static inline int
chansock_scale(
    uint64_t value, int q, uint64_t high, uint64_t low, int scale, double *result)
{
#if defined(CHANSOCK_SCAN_WORDS) && defined(__SIZEOF_INT128__)
    int zeros = __builtin_clzll(value), shift, exponent;
    unsigned __int128 lower, product, rest, half;
    uint64_t digits;

    value <<= zeros;
    /* value * (high, low) without its last 64 bits; the truth is less than 2 above */
    lower = (unsigned __int128)value * low;
    product = (unsigned __int128)value * high + (uint64_t)(lower >> 64);
    shift = (int)(product >> 127) + 74; /* leaves 53 bits */
    digits = (uint64_t)(product >> shift);
    half = (unsigned __int128)1 << (shift - 1);
    rest = product & (half + half - 1);
    if (rest > half)
        digits++;
    else if (rest + 2 > half)
        return 0;
    exponent = shift + 64 - zeros - scale + q;
    if (exponent < -1074 || exponent > 970)
        return 0;
    digits += (uint64_t)(exponent + 1074) << 52; /* a carry to 2^53 raises the exponent */
    memcpy(result, &digits, 8);
    return 1;
#else
    (void)value, (void)q, (void)high, (void)low, (void)scale, (void)result;
    return 0;
#endif
}

#endif
