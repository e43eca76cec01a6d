/* SHA-1 (RFC 3174) of what fits into two blocks: the key of a WebSocket handshake and its GUID.
 *
 * It protects nothing there; it shows that a server read the request (RFC 6455 section 1.3).
 * OpenSSL's costs four times as much for so few bytes, and may refuse where it only does FIPS. */

#ifndef CHANSOCK_SHA1_H
#define CHANSOCK_SHA1_H

#include <stdint.h>
#include <string.h>

#define CHANSOCK_SHA1_MOST 119  /* bytes; behind them stand a mark and the length */

static inline uint32_t
chansock_rotated(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

/* The word of round t, of which the last 16 are kept: a list of all 80 is made
 * by vectors, whose stores stall the loads behind them. */
#define CHANSOCK_WORD(t)                                                              \
    ((t) < 16 ? w[t] : (w[(t) & 15] = chansock_rotated(                               \
        w[((t) - 3) & 15] ^ w[((t) - 8) & 15] ^ w[((t) - 14) & 15] ^ w[(t) & 15], 1)))
/* One round, which leaves the five words where the next one finds them under other names. */
#define CHANSOCK_ROUND(a, b, c, d, e, mix, constant, t)                               \
    e += chansock_rotated(a, 5) + mix(b, c, d) + UINT32_C(constant) + CHANSOCK_WORD(t); \
    b = chansock_rotated(b, 30);
#define CHANSOCK_FIVE(t, mix, constant)                                               \
    CHANSOCK_ROUND(a, b, c, d, e, mix, constant, t)                                   \
    CHANSOCK_ROUND(e, a, b, c, d, mix, constant, t + 1)                               \
    CHANSOCK_ROUND(d, e, a, b, c, mix, constant, t + 2)                               \
    CHANSOCK_ROUND(c, d, e, a, b, mix, constant, t + 3)                               \
    CHANSOCK_ROUND(b, c, d, e, a, mix, constant, t + 4)
#define CHANSOCK_ROUNDS(from, mix, constant)                                          \
    CHANSOCK_FIVE(from, mix, constant)                                                \
    CHANSOCK_FIVE(from + 5, mix, constant)                                            \
    CHANSOCK_FIVE(from + 10, mix, constant)                                           \
    CHANSOCK_FIVE(from + 15, mix, constant)
#define CHANSOCK_CHOICE(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define CHANSOCK_PARITY(x, y, z) ((x) ^ (y) ^ (z))
#define CHANSOCK_MAJORITY(x, y, z) (((x) & (y)) + ((z) & ((x) ^ (y))))

static void
chansock_sha1_block(uint32_t state[5], const uint8_t *block)
{
    uint32_t w[16], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    for (int t = 0; t < 16; t++, block += 4)
        w[t] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8
             | block[3];
    CHANSOCK_ROUNDS(0, CHANSOCK_CHOICE, 0x5A827999)
    CHANSOCK_ROUNDS(20, CHANSOCK_PARITY, 0x6ED9EBA1)
    CHANSOCK_ROUNDS(40, CHANSOCK_MAJORITY, 0x8F1BBCDC)
    CHANSOCK_ROUNDS(60, CHANSOCK_PARITY, 0xCA62C1D6)
    state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e;
}

/* size is at most CHANSOCK_SHA1_MOST. */
static void
chansock_sha1(const uint8_t *data, size_t size, uint8_t digest[20])
{
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[128] = {0};
    size_t whole = size < 56 ? 64 : 128;

    memcpy(padded, data, size);
    padded[size] = 0x80;
    padded[whole - 2] = (uint8_t)(size * 8 >> 8);
    padded[whole - 1] = (uint8_t)(size * 8);
    for (size_t at = 0; at < whole; at += 64)
        chansock_sha1_block(state, padded + at);
    for (int k = 0; k < 20; k++)
        digest[k] = (uint8_t)(state[k / 4] >> (24 - 8 * (k % 4)));
}

#endif
