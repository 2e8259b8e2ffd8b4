/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/utf8.h"

static size_t length_by_first(unsigned char first)
{
	return first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 :
	       first < 0xf5 ? 4 : 0;
}

size_t utf8_next(const char *s, size_t left, uint32_t *ret)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = left ? length_by_first(s[0]) : 0;
	uint32_t c;

	if (n == 0 || n > left)
		return 0;
	c = (unsigned char)s[0];
	if (n > 1)
		c &= 0x7f >> n;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((unsigned char)s[i] & 0x3f);
	}
	if (c < smallest[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	*ret = c;
	return n;
}
