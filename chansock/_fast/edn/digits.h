/* Numbers to decimal digits: whole ones, and doubles in the layout of Java's Double.toString.
 *
 * Plain C, with few branches that depend on the digits, so that mixed numbers cost little more
 * than equal ones. No Python object, no allocation. Each function puts text at `at`, where
 * CHANSOCK_DIGITS_ROOM bytes must be free, and returns the place behind the text; what lies
 * behind that may be scribbled on. CHANSOCK_PORTABLE leaves out what needs more than C99. */

#ifndef CHANSOCK_DIGITS_H
#define CHANSOCK_DIGITS_H

#include <stdint.h>
#include <string.h>

#define CHANSOCK_DIGITS_ROOM 40

/* The powers of ten from 10^-292 to 10^324, each as 128 bits, of which the highest is set, and
 * rounded up. Whoever includes this file fills the table before the first double. */
#define CHANSOCK_LEAST_POWER (-292)
#define CHANSOCK_MOST_POWER 324
typedef struct { uint64_t high, low; } chansock_power;
static chansock_power chansock_powers[CHANSOCK_MOST_POWER - CHANSOCK_LEAST_POWER + 1];

#if !defined(CHANSOCK_PORTABLE) && defined(__SIZEOF_INT128__) && defined(__BYTE_ORDER__)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CHANSOCK_WORDS
#endif
#endif

#ifndef CHANSOCK_WORDS

static inline uint8_t *
chansock_put_uint(uint8_t *at, uint64_t n)
{
    uint8_t digits[20];
    int first = 20;

    do {
        digits[--first] = (uint8_t)('0' + n % 10);
        n /= 10;
    } while (n);
    memcpy(at, digits + first, (size_t)(20 - first));
    return at + (20 - first);
}

/* NULL: this double is left to the caller. */
static inline uint8_t *
chansock_put_double(uint8_t *at, double value)
{
    (void)at;
    (void)value;
    return NULL;
}

#else

#define CHANSOCK_ZEROS UINT64_C(0x3030303030303030)

/* The eight digits of n < 10^8 as characters, the first in the lowest byte. It is cut by 10^4,
 * 10^2 and 10, in all lanes at once; each multiplication is a division. */
static inline uint64_t
chansock_eight(uint32_t n)
{
    uint64_t high = n / 10000, low = n - high * 10000;
    uint64_t fours = high | low << 32;
    uint64_t hundreds = (fours * 10486 >> 20) & UINT64_C(0x0000007F0000007F);
    uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    uint64_t tens = (twos * 103 >> 10) & UINT64_C(0x000F000F000F000F);

    return (tens | (twos - 10 * tens) << 8) + CHANSOCK_ZEROS;
}

/* How many digits n < 10^8 has. */
static inline int
chansock_count(uint32_t n)
{
    static const uint32_t tens[9] = {
        1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    int most = (32 - __builtin_clz(n | 1)) * 1233 >> 12;    /* log10(2) is 1233 / 4096 */

    return most + ((n | 1) >= tens[most]);
}

/* The digits of n < 10^8. */
static inline uint8_t *
chansock_put_digits(uint8_t *at, uint32_t n)
{
    int count = chansock_count(n);
    uint64_t word = chansock_eight(n) >> (8 - count) * 8;

    memcpy(at, &word, 8);
    return at + count;
}

static inline uint8_t *
chansock_put_uint(uint8_t *at, uint64_t n)
{
    uint64_t word;

    if (n < 100000000)
        return chansock_put_digits(at, (uint32_t)n);
    at = chansock_put_uint(at, n / 100000000);
    word = chansock_eight((uint32_t)(n % 100000000));
    memcpy(at, &word, 8);
    return at + 8;
}

/* The highest bits of power * n, with the lowest bit of the result set if anything is lost. */
static inline uint64_t
chansock_scale_power(chansock_power power, uint64_t n)
{
    unsigned __int128 low = (unsigned __int128)power.low * n;
    unsigned __int128 high = (unsigned __int128)power.high * n + (uint64_t)(low >> 64);

    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* The shortest digits that read back as the normal double of these bits, and of those the
 * nearest: 16 or 17 of them, with zeros at the end, and the power of ten of the last one.
 * The way of Raffaello Giulietti's Schubfach: of the decimals on a grid just finer than the
 * double's interval, at most four can be the answer, and one of the grid ten times as coarse. */
static inline uint64_t
chansock_shortest(uint64_t bits, int *power)
{
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1), c = fraction | UINT64_C(1) << 52;
    int q = (int)(bits >> 52 & 0x7FF) - 1075;
    int is_narrow = fraction == 0 && q > -1074;     /* its lower neighbour is nearer */
    int k = (q * 315653 - (is_narrow ? 131237 : 0)) >> 20;      /* floor of log10 */
    int shift = q + (-k * 1741647 >> 19) + 1;
    chansock_power g = chansock_powers[-k - CHANSOCK_LEAST_POWER];
    uint64_t is_odd = c & 1;
    uint64_t lower = chansock_scale_power(g, (4 * c - 2 + (uint64_t)is_narrow) << shift) + is_odd;
    uint64_t middle = chansock_scale_power(g, (4 * c) << shift);
    uint64_t upper = chansock_scale_power(g, (4 * c + 2) << shift) - is_odd;
    uint64_t s = middle / 4, coarse = s / 10 * 10;
    int is_in, is_next_in;

    *power = k;
    is_in = lower <= 4 * coarse;
    is_next_in = 4 * coarse + 40 <= upper;
    if (is_in != is_next_in)
        return is_in ? coarse : coarse + 10;
    is_in = lower <= 4 * s;
    is_next_in = 4 * s + 4 <= upper;
    if (is_in != is_next_in)
        return is_in ? s : s + 1;
    return middle + (s & 1) > 4 * s + 2 ? s + 1 : s;
}

/* n / 1000, with n < 10^11: at most three digits behind the point, as money and measures have.
 * If the quotient is the double, no shorter decimal is: of decimals with up to 15 digits no two
 * are the same double. */
static inline uint8_t *
chansock_put_thousandths(uint8_t *at, uint64_t n)
{
    uint32_t rest = (uint32_t)(n % 1000);
    uint32_t tenths = rest / 100, both = rest % 100;

    at = chansock_put_digits(at, (uint32_t)(n / 1000));
    at[0] = '.';
    at[1] = (uint8_t)('0' + tenths);
    at[2] = (uint8_t)('0' + both / 10);
    at[3] = (uint8_t)('0' + both % 10);
    return at + 2 + (both != 0) + (both % 10 != 0);
}

/* From 10^-3 up to 10^7 with a point in its place, else as `1.5E-7`; at least one digit on each
 * side of the point. NULL: this double (subnormal, infinite, no number) is left to the caller. */
static inline uint8_t *
chansock_put_double(uint8_t *at, double value)
{
    uint64_t bits, s, first, behind;
    int k, exponent, count;

    memcpy(&bits, &value, 8);
    *at = '-';
    at += bits >> 63;
    bits &= ~(UINT64_C(1) << 63);
    memcpy(&value, &bits, 8);
    if (value < 1e7) {
        s = (uint64_t)(value * 1000 + 0.5);
        if ((double)s / 1000 == value)
            return chansock_put_thousandths(at, s);
    }
    exponent = (int)(bits >> 52);
    if (exponent == 0 || exponent == 0x7FF)
        return NULL;
    s = chansock_shortest(bits, &k);
    if (s < UINT64_C(10000000000000000)) {
        s *= 10;
        k -= 1;
    }
    exponent = k + 16;
    first = s / UINT64_C(10000000000000000);
    s -= first * UINT64_C(10000000000000000);
    behind = chansock_eight((uint32_t)(s % 100000000));     /* the last eight of 16 */
    s = chansock_eight((uint32_t)(s / 100000000));
    if (behind != CHANSOCK_ZEROS)
        count = 16 - __builtin_clzll(behind ^ CHANSOCK_ZEROS) / 8;
    else
        count = 8 - __builtin_clzll((s ^ CHANSOCK_ZEROS) | 1) / 8;

    if (exponent < 0 && exponent >= -3) {       /* 0.00ddd */
        memcpy(at, "0.00", 4);
        at += 1 - exponent;
        *at++ = (uint8_t)('0' + first);
        memcpy(at, &s, 8);
        memcpy(at + 8, &behind, 8);
        return at + count;
    }
    *at++ = (uint8_t)('0' + first);
    if (exponent > 0 && exponent < 7) {         /* ddd.ddd */
        memcpy(at, &s, 8);
        at += exponent;
        *at++ = '.';
        s = s >> 8 * exponent | behind << (64 - 8 * exponent);
        behind >>= 8 * exponent;
        memcpy(at, &s, 8);
        memcpy(at + 8, &behind, 8);
        return at + (count > exponent ? count - exponent : 1);
    }
    *at++ = '.';
    memcpy(at, &s, 8);
    memcpy(at + 8, &behind, 8);
    at += count ? count : 1;
    if (exponent == 0)                          /* d.ddd */
        return at;
    *at++ = 'E';                                /* d.dddE-12 */
    *at = '-';
    at += exponent < 0;
    return chansock_put_digits(at, (uint32_t)(exponent < 0 ? -exponent : exponent));
}
#endif
#endif
