/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_COMMON_UTF8_H
#define KWS_COMMON_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The length in bytes of the UTF-8 sequence at `s`, of which `left` bytes may be looked
 * at (SIZE_MAX if a NUL ends the text); 0 if it is none (RFC 3629: no overlong forms,
 * no surrogates, nothing above U+10FFFF). *ret is its character. */
size_t utf8_next(const char *s, size_t left, uint32_t *ret);

#endif
