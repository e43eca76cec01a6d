/* Letters in any case, by ASCII alone: strncasecmp asks the locale, where a Turkish I is no i,
 * and ends at a NUL. */

#ifndef CHANSOCK_FOLD_H
#define CHANSOCK_FOLD_H

#include <stddef.h>

/* Whether two texts of one size differ in more than case. */
static inline int
chansock_differ(const char *a, const char *b, size_t size)
{
    for (size_t k = 0; k < size; k++) {
        unsigned char x = (unsigned char)a[k], y = (unsigned char)b[k];
        if (x != y && ((x ^ y) != 0x20 || (unsigned char)((x | 0x20) - 'a') > 25))
            return 1;
    }
    return 0;
}

#endif
